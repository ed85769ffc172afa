"""What every pipeline knows without saying it, and the names that sections have for themselves."""

from __future__ import annotations

import copy

from dbb.pipeline.model import Tree, merge

REPOSITORY_MODULE = "create_butler_registry"
"""The module that stands for making a job's repository, which dbb does itself."""
_DEFAULTS: Tree = {
    "attnum": "0",
    # what DESDM's submit command adds from its database options
    "submit_des_services": "",
    "submit_des_db_section": "",
    "submit_run": "${unitname}_r${reqnum}p${attnum:2}",
    "ops_run_dir": "${submit_run}",
    "run": "${submit_run}",
    "modnamepat": "${unitname}_r${reqnum}p${attnum:2}w${wrapnum}_${modulename}",
    "tmpfile_prefix": "tmp_${unitname}_r${reqnum}p${attnum:2}w${wrapnum:5}_${modulename}",
    "filename_pattern": {"log": "${modnamepat}.log"},
    "directory_pattern": {
        "list": {"runtime": "list/${modulename}", "ops": "$opt{ops_run_dir}/list/${modulename}"},
        "log": {"runtime": "log/${modulename}", "ops": "$opt{ops_run_dir}/log/${modulename}"},
    },
}


def prepared(tree: Tree) -> Tree:
    """Return a pipeline's tree over the defaults; each member of a section knows its name: ``${modulename}``.

    `tree` itself stays as it is.
    """
    root = copy.deepcopy(_DEFAULTS)
    merge(root, copy.deepcopy(tree))
    for section, members in root.items():
        if isinstance(members, dict):
            for name, member in members.items():
                if isinstance(member, dict):
                    member.setdefault(f"{section}name", name)
    return root
