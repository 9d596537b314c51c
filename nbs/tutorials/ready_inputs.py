"What the model that comes with Natron reads, for `natron audit nbs.tutorials.ready_inputs:ready_inputs`."
import numpy as np, pandas as pd
from natron.bundle import load_bundle
from natron.core import resource

MODEL = load_bundle(resource("data/natron_fx.pt"))


def ready_inputs(candles):
    "Its columns, scaled as the network gets them, NaN where unknown."
    x, mask = MODEL.scaler().transform(MODEL.rows(candles))
    return pd.DataFrame(np.where(mask, x, np.nan), candles.index, MODEL.feature_columns)
