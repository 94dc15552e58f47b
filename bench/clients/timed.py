"""Runs a command and prints, behind what it prints, a line: seconds it took, seconds of processor time of it and its children."""
import resource
import subprocess
import sys
import time

def used():
    """Of children that were waited for: what a wrapper in front of this program ran is among them."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


before = used()
began = time.monotonic()
status = subprocess.run(sys.argv[1:]).returncode
took = time.monotonic() - began
print("%.6f %.6f" % (took, used() - before), flush=True)
sys.exit(status)
