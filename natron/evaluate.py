# STUB
import numpy as np, pandas as pd
from .dataset import window_data
from .finetune import predict_windows, prepare_for
class S:
    def __init__(self,t): self.table=t
    def text(self): return "volatility direction majority\n"+self.table.to_string()
    def to_dict(self): return self.table.to_dict()
    def write_report(self,p): open(p,"w").write(self.table.to_html())
def judge(prep, model, temperature=None):
    d=window_data(prep,"test"); p=predict_windows(model,d,temperature); y=d.y[d.ends].numpy(); r=[]
    for k,t in enumerate(prep.labels.tasks):
        if not t.classes: continue
        kn=~np.isnan(y[:,k]); yi=y[kn,k].astype(int); pp=p[t.name][kn]
        pr=np.array(prep.labels.state["prior"][t.name])
        r.append(dict(task=t.name,ll=float(-np.log(pp[np.arange(len(yi)),yi]).mean()),majority=float(-np.log(pr[yi]).mean()),acc=float((pp.argmax(1)==yi).mean())))
    return S(pd.DataFrame(r).set_index("task"))
def judge_bundle(b,candles,start=None,end=None):
    prep=prepare_for(b,candles,start,end); return judge(prep,b.model(),b.calibration)
