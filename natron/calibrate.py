# STUB
def calibrate(tasks,probs,ys): return {}
