"""What `scripts/bench.py` measures, a file a stage of the data flow; no data is needed beyond what
they make.
"""
