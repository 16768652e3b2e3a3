"""What the event log in PostgreSQL is made of.

server.py    a server by its URL: connections, and what its errors mean (alone knows asyncpg)
schema.py    the tables, made and brought up to date
writer.py    one connection that writes, in groups, and finds out what became of a commit when it is lost
appends.py   a group of batches, with the files and marks that go along, as one statement
reader.py    a few connections that read
files.py     files by their SHA-256 · marks.py what a log added up to
"""
