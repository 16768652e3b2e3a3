"""What is said and how it travels: events, their envelope, transports, the event log.

events.py      every fact a run can record · setup.py a scenario as resolved, with the values events are made of
envelope.py    who said it, when, in answer to what · codec.py envelope <-> one line of JSON
wire.py        message <-> payload, for transports that leave the process
notes.py       what notes hold, and which messages may come on which topic
topics.py      names of topics, `+` and `#` matching · pubsub.py typed publish and subscribe
cards.py       what agents and hubs say of themselves
transport.py   contract · transports/ one file each · parcels.py where payloads lie that are too large to travel
               broker_address.py where a broker is · broker_link.py one connection to it
               broker_packets.py the packets of every message · broker_filters.py what is wanted of the broker
               broker_queue.py what a subscription over it holds · retained_words.py what was said for all who come
courier.py     files between processes: file_notes.py what is said of them, file_parts.py in which parts, file_cache.py
               what is kept here · courier_parcels.py payloads too large to travel
event_log.py   contract · event_logs/ one file each · chain.py what they check alike
store.py       an event log with its files: file_store.py, and marks: mark_store.py
               references.py which events name which files
               database.py one SQLite file for all of it: database_file.py
               damage.py what shows that it is not whole · presence.py who writes in a folder
               opened.py what this process has open of it
               private_folder.py one that nobody else reads
               postgres/ the same on a server
simulation/    a broker, a disk and the time under one seed
archive.py     a run with its files as one archive: archive_file.py
lookup.py      short name or "module:Class" -> the class
errors.py      what can go wrong · raised_at.py where in a person's own code
"""
