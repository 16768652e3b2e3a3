"""The scenario file: model.py is what it says, checked as a whole; the other modules are the steps to it.

source.py plain data that knows its places · yaml_source.py how it is read, by yaml_composer.py · file.py its keys and
types · draft.py one being checked
changes.py `--set` and `--goal` · inputs.py `${{ inputs.x }}` · values.py, units.py what values mean · validation.py,
rules.py, plan.py what must hold · schemas.py what its checks measure by · own_code.py code it names · may.py what it
may do · trust.py whether a person has agreed to that
"""
