"""Works on a container of AiiDA's files (disk-objectstore) without AiiDA around it.

container.py FOLDER pack NUMBER LENGTH   stores so many objects in a pack, making the container
container.py FOLDER loose NUMBER LENGTH  stores so many objects by themselves
container.py FOLDER packed               moves what lies by itself into packs
"""

import io
import os
import sys

from disk_objectstore import Container


def main():
    folder, what = sys.argv[1:3]
    with Container(folder) as container:
        if not container.is_initialised:
            container.init_container(compression_algorithm="zlib+1")
        if what == "packed":
            container.pack_all_loose()
            container.clean_storage()
            return
        number, length = (int(word) for word in sys.argv[3:5])
        streams = [io.BytesIO(os.urandom(length)) for _ in range(number)]
        if what == "pack":
            container.add_streamed_objects_to_pack(streams)
        else:
            for stream in streams:
                container.add_streamed_object(stream)


main()
