"One thread a process: two workers share the cores."
import os
os.environ.setdefault("OMP_NUM_THREADS", "1")
