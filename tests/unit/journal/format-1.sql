-- The journal's tables in PostgreSQL as commit 709fb8b makes them.
CREATE TABLE entries (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uuid TEXT COLLATE "C" NOT NULL,
    received DOUBLE PRECISION NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    version INTEGER NOT NULL,
    certname TEXT COLLATE "C" NOT NULL,
    producer_timestamp TEXT COLLATE "C" NOT NULL,
    encoding TEXT COLLATE "C" NOT NULL,
    length BIGINT NOT NULL,
    packing TEXT COLLATE "C" NOT NULL,
    size BIGINT NOT NULL,
    checksum BYTEA NOT NULL,
    body BYTEA NOT NULL
);
CREATE INDEX entries_uuid ON entries (uuid);
CREATE INDEX entries_of_node ON entries (certname, name, producer_timestamp);
CREATE INDEX entries_pending ON entries (certname, name, producer_timestamp) WHERE state = 'pending';
CREATE INDEX entries_by_state ON entries (state, id);
CREATE TABLE owed (
    target TEXT COLLATE "C" NOT NULL,
    lane INTEGER NOT NULL,
    rank BIGINT NOT NULL,
    entry BIGINT NOT NULL,
    due DOUBLE PRECISION NOT NULL,
    tries INTEGER NOT NULL,
    PRIMARY KEY (target, lane, rank)
);
CREATE INDEX owed_entry ON owed (entry, target);
CREATE TABLE copies (
    entry BIGINT NOT NULL,
    server TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    uuid TEXT COLLATE "C",
    at DOUBLE PRECISION NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (entry, server)
);
CREATE INDEX copies_accepted ON copies (server, entry) WHERE state = 'accepted';
CREATE INDEX copies_confirmed ON copies (server, entry) WHERE state = 'confirmed';
CREATE TABLE newest (
    certname TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    producer_timestamp TEXT COLLATE "C" NOT NULL,
    entry BIGINT NOT NULL,
    PRIMARY KEY (certname, name)
);
CREATE INDEX newest_entry ON newest (entry);
CREATE TABLE sizes (writer TEXT COLLATE "C" PRIMARY KEY, bytes BIGINT NOT NULL);
