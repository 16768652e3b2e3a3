"""Tools by short name."""

TOOLS = {
    "read_file": "agents.tools.project_files:read_file",
    "write_file": "agents.tools.project_files:write_file",
    "edit_file": "agents.tools.project_files:edit_file",
    "list_files": "agents.tools.project_files:list_files",
    "search_files": "agents.tools.project_files:search_files",
    "run_python": "agents.tools.run_python:run_python",
    "run_command": "agents.tools.run_command:run_command",
    "fetch_page": "agents.tools.fetch_page:fetch_page",
}
