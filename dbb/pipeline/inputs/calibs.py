"""``calibs = VERSION``: for each exposure of another section the certified calibration that fits its date."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from dbb.butler.calibrations import CalibrationFinder, Wish
from dbb.butler.spec import CalibSpec
from dbb.filetypes import CONVERTERS
from dbb.mapper import Mapper
from dbb.pipeline.inputs.output import nick_of
from dbb.pipeline.inputs.rows import FileLines
from dbb.pipeline.section import Line, Section
from dbb.registry import Database
from dbb.registry.archives import archive_order, archives
from dbb.registry.select import FIXED, FileQuery, Wanted, resolve, select_files


@dataclass(slots=True)
class _Exposure:
    """What a line of the other section says of an exposure, and how its calibration is chosen."""

    values: Mapping[str, str]
    id: tuple[object, ...]
    chosen_by: dict[str, object] = field(default_factory=dict)


def calibration_lines(section: Section, db: Database, known: Callable[[str], Sequence[Line]]) -> list[Line]:
    """Return lines with the calibrations for the exposures of the section that ``calibs_for`` names.

    Each carries the exposure's keys and the calibration's, so that ``match = visit, ccd`` finds it. What the lines of
    the other section do not say of filter and date is looked up from the raws.

    Raises
    ------
    PipelineError
        If a key is missing, or an exposure lacks visit or detector.
    NotFoundError
        If filetype or version are unknown.
    MissingError
        If an exposure has no calibration, unless ``optional = True``.
    AmbiguousError
        If it has several.

    Notes
    -----
    Two SELECTs at most besides the look-up of names, however many exposures.
    """
    version, kind = section.text("calibs") or "", section.text("dataset") or section.text("filetype")
    if not kind:
        raise section.error("calibs needs filetype (or dataset): which kind of calibration?", "calibs")
    filetype = db.filetype(kind)
    camera = db.mapper(filetype.name)
    if camera is None:
        raise section.error(
            f"{filetype.name} belongs to no camera, which could say how calibrations are chosen", "calibs"
        )
    exposures = _exposures(section, camera, known)
    asked = CalibSpec(version, (filetype.name,))
    with db.read() as conn:
        _look_up(exposures, camera, db, conn)
        finder = CalibrationFinder(db, conn, camera, "both", archive_order(archives(conn), ()))
        wishes = [finder.note(one.id, *(one.chosen_by.get(name) for name in _choice(camera))) for one in exposures]
        [(_, _, statement)] = finder.statements(asked)
        rows = list(resolve(conn.execute(statement), filetype, unique=False))
        found = finder.fit(filetype, rows, asked, optional=section.flag("optional"))
    nick = nick_of(section, filetype.name)
    files = FileLines(nick, [key.lower() for key in filetype.keys])
    files.extend(found.values(), FIXED)
    texts = {wish: line[nick] for wish, line in zip(found, files, strict=True)}
    return list(_lines(section, camera, zip(exposures, wishes, strict=True), texts, nick))


def _choice(camera: Mapper) -> tuple[str, str, str]:
    return camera.keys.detector, camera.keys.filter, camera.date_column


def _exposures(section: Section, camera: Mapper, known: Callable[[str], Sequence[Line]]) -> list[_Exposure]:
    source = section.text("calibs_for") or ""
    where, _, nick = source.partition(".")[2].partition(".")
    if source.partition(".")[0] not in {"file", "list"} or not where:
        raise section.error("calibs needs calibs_for = file.x or list.x: calibrations for which exposures?", "calibs")
    lines = known(f"{source.partition('.')[0]}.{where}")
    found = []
    for line in lines:
        values = (
            line.get(nick) if nick else next((one for one in line.values() if _has(one, camera.exposure_keys)), None)
        )
        if values is None or not _has(values, camera.exposure_keys):
            names = " and ".join(camera.exposure_keys)
            file = next(iter(line.values()))["filename"]
            raise section.error(f"calibs_for = {source}: the line of {file} has no {names}", "calibs_for")
        found.append(_exposure(section, camera, values))
    return found


def _has(values: Mapping[str, str], keys: Sequence[str]) -> bool:
    return all(key.lower() in values for key in keys)


def _exposure(section: Section, camera: Mapper, values: Mapping[str, str]) -> _Exposure:
    """Read the texts of a line as the camera's columns hold them."""
    typed: dict[str, object] = {}
    for name in dict.fromkeys((*camera.exposure_keys, *_choice(camera))):
        text = values.get(name.lower())
        if text is not None:
            try:
                typed[name] = CONVERTERS["int" if camera.raw_columns[name] == "int" else "str"](text)
            except ValueError as error:
                raise section.error(f"{values['filename']}: {name} = {text}: {error}", "calibs_for") from error
    one = _Exposure(values, tuple(typed[key] for key in camera.exposure_keys))
    one.chosen_by = {name: typed[name] for name in _choice(camera) if name in typed}
    return one


def _look_up(exposures: Sequence[_Exposure], camera: Mapper, db: Database, conn: sa.Connection) -> None:
    """Add filter and date of the raws to exposures that lack one; a single SELECT."""
    waiting = [one for one in exposures if len(one.chosen_by) < len(_choice(camera))]
    if not waiting or camera.raw_filetype not in db.filetypes():
        return
    raw = db.filetype(camera.raw_filetype)
    table = db.table(raw)
    assert table is not None  # a raw has its visit
    keys = [key for key in camera.exposure_keys if key in raw.types]
    names = [name for name in _choice(camera) if name in raw.types]
    query = FileQuery(
        raw.name, f"{camera.keys.visit} IN :visits", binds={"visits": sorted({one.id[0] for one in waiting}, key=str)}
    )
    wanted = Wanted(tuple(table.c[name.lower()] for name in (*keys, *names)))
    _, statement = select_files(db, conn, query, wanted)
    said: dict[tuple[object, ...], dict[str, object]] = {}
    for row in conn.execute(statement):
        own = row[FIXED + len(raw.keys) :]
        said[tuple(own[: len(keys)])] = dict(zip(names, own[len(keys) :], strict=True))
    for one in waiting:
        one.chosen_by = said.get(one.id[: len(keys)], {}) | one.chosen_by


def _lines(
    section: Section,
    camera: Mapper,
    exposures: Iterator[tuple[_Exposure, Wish]],
    texts: Mapping[Wish, Mapping[str, str]],
    nick: str,
) -> Iterator[Line]:
    """Give one line for each exposure, or more where the section is matched by other keys too."""
    asked = next((items for key in ("loopkey", "match", "divide_by") if (items := section.items(key))), [])
    carried = dict.fromkeys(name.lower() for name in (*camera.exposure_keys, *asked))
    given = set()
    for exposure, wish in exposures:
        if wish not in texts:
            continue  # optional
        said = {name.lower(): str(value) for name, value in exposure.chosen_by.items() if value is not None}
        own = {name: exposure.values[name] for name in carried if name in exposure.values}
        values = {**texts[wish], **said, **own}
        mark = tuple(own.values()), wish
        if mark not in given:
            given.add(mark)
            yield {nick: values}
