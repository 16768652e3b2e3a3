"""What people see of a run.

progress.py the live view, of what glance.py knows · timeline.py a log as a story, in the words of wording.py ·
terminal.py what may be shown, and how · measures.py sizes and ages
"""
