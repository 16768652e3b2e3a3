"""Files of an attempt, confined.

project_folder.py what tools and checks use · attempt_folder.py laid out, and its changes collected
beneath.py opens below a folder and nowhere else · plain_file.py what a plain file is · plain_text.py its bytes as
text · names.py which names may be used · removal.py however deep a tree is
"""
