"""What `scripts/bench.py` measures, a file a stage of the data flow, on data that they make."""
