"""Makes a profile of AiiDA and works in it, or tells what is in one.

profile.py work NODES STORAGE-CONFIG-AS-JSON BACKEND
    makes the profile `lab`, stores NODES nodes, prints `ready`, and goes on storing and packing
    until standard input ends; then prints what is in it.
profile.py tell
    prints what is in the profile `lab`: a line for each node, with checksums of its files.
"""

import hashlib
import io
import json
import sys
import threading


def main():
    from aiida.manage.configuration import get_config

    config = get_config(create=True)
    if sys.argv[1] == "work":
        from aiida.manage.configuration import create_profile

        create_profile(
            config,
            name="lab",
            storage_backend=sys.argv[4],
            storage_config=json.loads(sys.argv[3]),
            email="lab@example.org",
            broker_backend=None,
            broker_config=None,
        )
        config.set_default_profile("lab", overwrite=True)
        config.store()
    from aiida import load_profile

    load_profile("lab")
    if sys.argv[1] == "work":
        work(int(sys.argv[2]))
    tell()


def work(nodes):
    from aiida.manage import get_manager

    storage = get_manager().get_profile_storage()
    for number in range(nodes):
        store(number)
        if number == nodes // 2:
            storage.maintain(full=False)
    print("ready", flush=True)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    number = nodes
    while not ended.is_set():
        for _ in range(5):
            store(number)
            number += 1
        # Moves what is loose into packs, and removes it there, as verdi storage maintain does.
        storage.maintain(full=False)
        print("packed", flush=True)


def store(number):
    from aiida import orm

    text = hashlib.sha256(str(number).encode()).digest() * (1 + number % 200)
    node = orm.FolderData()
    node.base.repository.put_object_from_filelike(io.BytesIO(text), "out.dat")
    node.base.attributes.set("number", number)
    node.base.repository.put_object_from_filelike(io.BytesIO(text[:40]), "a/b.txt")
    node.store()


def tell():
    from aiida import orm

    for (node,) in orm.QueryBuilder().append(orm.Node).iterall():
        files = {}
        for folder, _, names in node.base.repository.walk():
            for name in names:
                path = str(folder / name)
                content = node.base.repository.get_object_content(path, mode="rb")
                files[path] = hashlib.sha256(content).hexdigest()
        about = {"node": node.uuid, "attributes": node.base.attributes.all, "files": files}
        print(json.dumps(about, sort_keys=True), flush=True)


main()
