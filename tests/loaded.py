"What forked processes need not load: the libraries, Natron's modules, and its kernels."
import gc
gc.disable()
import nbdev.test, fastcore.test, hypothesis, httpx, IPython, ipywidgets, matplotlib.pyplot, papermill, \
    plotly.graph_objects as go
import scipy.signal, sklearn.covariance, torch._dynamo
import natron.all, natron.app, natron.cli, natron.rl, natron.sweep
from natron.candles import sample_candles
from natron.features import compute_context, compute_features
from natron.stream import FeatureStream

candles = sample_candles()
compute_features(candles), compute_context(candles)
FeatureStream(candles[:600]).append(candles.reset_index().iloc[600])
go.Figure(go.Scatter(), layout=dict(template="natron")).to_json()
gc.freeze()
gc.enable()
