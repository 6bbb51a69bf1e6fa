"""Files of others, written from an index and read into one, in blocks: ten million rows fit.

rows.py             the rows of an index: vectors with records of what they stand for
columns.py          records as tables of one schema
places.py           targets that are there whole or not at all; the note that exports leave
exporting.py        EXPORTS {format: writer}    ◄ a format that is written: a file, a line
parts.py            what readers give: vectors with tables
incoming.py         tables of others as the index takes them
adding.py           what readers give into the index, and nothing twice
importing.py        IMPORTS {format: reader}    ◄ a format that is read: a file, a line
clip_retrieval.py   its embeddings folder, both ways
clip_video_encode.py
arrays.py, array_files.py   npy and parquet, written and read
"""

from __future__ import annotations
