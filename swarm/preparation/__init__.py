"""What a run needs to begin, found and checked before anything is paid for.

preparing.py    all of it · workspace.py the files it begins with
parts.py        what its roles work with · model_choice.py which model, and why · open_models.py models opened once
recordings.py   what of a log answers for models
"""
