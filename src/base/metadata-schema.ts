// The schema of the metadata. Not `pg_flo`: names that begin with `pg_` are the server's own, it refuses them.

export const METADATA_SCHEMA = "_pg_flo";
