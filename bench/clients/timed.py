"""Runs a command and prints, behind what it prints, a line: seconds it took, seconds of processor time of it and its children."""
import resource
import subprocess
import sys
import time

began = time.monotonic()
status = subprocess.run(sys.argv[1:]).returncode
took = time.monotonic() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print("%.6f %.6f" % (took, used.ru_utime + used.ru_stime), flush=True)
sys.exit(status)
