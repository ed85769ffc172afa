"""The keys that mean something to a pipeline, by the section they stand in, and the words that some of them take."""

from __future__ import annotations

from collections.abc import Mapping


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_RESOURCES = _words("request_memory request_cpus request_disk max_walltime nodeset priority")
_THREADS = _words("max_fwthreads master_use_fwthreads fw_nmaxthread fwthread_reuse")
_EVERYWHERE = _words("modnamepat req_vals patch_style args_file divide_jobs_by wrapper_debug") | _RESOURCES | _THREADS
_NAMES = _words("filename filepat fullname flabel fsuffix dirpat rundir ops_enddir job_enddir filetype")

DATA_KEYS = _words("exec query query_fields where id calibs depends depends-newname")
"""Keys that give a section data lines of its own."""

NAME_KEYS = _words("filename filepat fullname")
"""Keys that name the files of a file section."""

_DATA = DATA_KEYS | _words(
    """
    args qouttype table query_table output_fields join dataset runs overlaps calibs_for nick divide_by match loopkey
    group_by
    """
)

KNOWN_KEYS: Mapping[str, frozenset[str]] = {
    "top": _EVERYWHERE
    | _words(
        """
        reqnum unitname attnum project pipeline campaign operator jira_id pipeprod pipever basket label group_submit_id
        blocklist block module modulelist site archive target_site home_archive target_archive ops_run_dir
        submit_run_dir filename_pattern directory_pattern job_file_mvmt exec_def filetype_metadata file_header qcf
        job_environment use_qcf use_db_in use_db_out use_target_archive_input use_target_archive_output
        use_home_archive_input use_home_archive_output max_transfers save_md5sum save_run_vals
        create_junk_tarball verify_files master_compression master_savefiles compression_exec compression_args
        compression_suffix compression_cleanup stop_on_fail purge_job_dir when_to_email email
        condor_file_transfer condor_python request_memory_growth
        parsl_site parsl_partition parsl_nodes parsl_walltime parsl_options parsl_worker_init parsl_address
        """
    ),
    "block": _EVERYWHERE | _words("modulelist target_site"),
    "module": _EVERYWHERE | _words("wrappername wrapperloop loopobj file list wrapper noop list_order"),
    "exec": _words("execname cmdline cmd_hyphen used was_generated_by ancestry version_flag version_pattern args_file"),
    "file": _NAMES
    | _DATA
    | _words("listonly savefiles compress_files optional ignore_multiple_error rename_file repoingest"),
    "list": _NAMES | _DATA | _words("format columns sortkey allow_missing div_list_by_col optional"),
    "wrapper": _words(
        "per_file_cmdline add_cmdline job_repo_dir mapper butler_template ref_cats_root untar_files calib_root"
    ),
}
"""The known keys of each kind of section. Every other key is a variable of the operator's own."""

NAMING_KEYS = _words(
    "query_fields output_fields wrapperloop divide_by match loopkey columns sortkey req_vals where divide_jobs_by"
)
"""Keys whose values name other keys."""

BOOLEAN_KEYS: Mapping[str, frozenset[str]] = {
    "file": _words("listonly savefiles compress_files optional ignore_multiple_error"),
    "list": _words("allow_missing optional"),
    "module": _words("noop"),
}
"""Keys that are true or false."""
