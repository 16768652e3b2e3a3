"""What checks and searches need: criteria.py reads them · json_schema.py judges JSON (json_schema_form.py its keywords).

bounded.py runs what may take for ever in a child · regex_search.py patterns that a model wrote
"""
