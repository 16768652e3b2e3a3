"""Who speaks: roles, and the models and tools they think and act with.

role.py      contract · roles/ planner, researcher, coder, critic, each with its prompt beside it
context.py   all a role may use while it works · briefing.py what it is told · prompts.py in words
effects.py   each effect found in the journal or done once · journal.py keys and order · canonical.py digests
             divergence.py where a role does something else than its log says · lookout.py where it does nothing more
             · turns.py of the event loop · tool_calls.py of tools · thinking.py each question of a conversation an
             effect
dialogue.py  the model-and-tools conversation as a pure state machine · conversation/ its parts
model.py     contract · models/ one file each · completions/ Chat Completions · tries.py what follows a failed try
tool.py      contract · tools/ one file each · run_program.py for those that run code · web/ for those that fetch
check.py     contract · checks/ one file each · checking/ what they need
errors.py    what can go wrong
sandbox.py   contract · sandboxes/ one file each · files/ an attempt's folder, confined
"""
