"""What checks and searches need.

criteria.py reads a criterion's keys · json_schema.py judges JSON, json_schema_form.py knows the keywords
bounded.py runs what may take for ever in a child · regex_search.py patterns that a model wrote
"""
