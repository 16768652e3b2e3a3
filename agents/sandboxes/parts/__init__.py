"""What sandboxes are built from.

launcher.py runs, bounds and kills · usage.py sums over a tree of processes · capped_output.py · handover.py owners of a
folder · interpreter.py which Python · seccomp.py system calls refused · bubblewrap_options.py its command line
"""
