"""Who speaks: roles, and the models and tools they think and act with.

role.py           contract · roles/ planner, researcher, coder, critic, each with its prompt beside it
context.py        all a role may use while it works · briefing.py what it is told · prompts.py in which words
effects.py        each effect done once, or answered from the journal: journal.py · flow.py where data may go
thinking.py       a conversation as effects · tries.py what follows a failed try
dialogue.py       the conversation as a pure state machine: steps.py what it wants done · calls.py tool calls
                  · dialogue_json.py calls as JSON · messages.py · structured.py answers of a type
                  · fitting.py the context window · repetition.py no progress
model.py          contract · models/ one file each · endpoint.py a server: chat_completions.py what is said to it
                  · call_gate.py how much at once · bounded_transport.py how it is reached · prices.py · weights.py
tool.py           contract · tools/ one file each · run_program.py · regex_search.py
                  · web.py fetching: addresses.py from where · readable.py what of a page
check.py          contract · checks/ one file each · criteria.py their keys · json_schema.py, json_schema_form.py
sandbox.py        contract · sandboxes/ one file each · bounded.py a function in a child process
project_folder.py the attempt's folder, confined: beneath.py · plain_file.py · file_names.py
                  · attempt_folder.py laid out and collected
errors.py         what can go wrong
"""
