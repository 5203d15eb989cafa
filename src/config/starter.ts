// The config that `pg-flo init` writes when there is none: small, commented, and valid as it is.
import { METADATA_SCHEMA } from "../base/metadata-schema.ts";

/** A commented YAML config that needs only PGPASSWORD in the environment to be valid. */
export function starterConfig(): string {
  return `# pg-flo's configuration. Every key: docs/config.md
# \${NAME} reads the environment, so that no secret stands here.

# The name of this pipeline: a-z, 0-9 and _. Its slot, its publication and its folder are named after it.
group: app

# The database to copy and follow. The role needs LOGIN and REPLICATION and may read the tables:
# \`pg-flo check\` prints the grants that are missing.
source:
  url: "postgres://postgres:\${PGPASSWORD}@localhost:5432/postgres"
  # sslmode: verify-full
  # sslrootcert: ./ca.pem

# Where pg-flo keeps its state, schema ${METADATA_SCHEMA}. The default is the source itself.
# metadata:
#   url: "postgres://pg_flo:\${METADATA_PASSWORD}@localhost:5432/pg_flo"

# Where the Parquet files go: a folder, from this file's folder if it is relative, or s3://bucket/prefix (docs/s3.md).
storage: ./data

# What to copy: "*" is every table of a schema, also ones created later.
schemas:
  public: "*"
  # sales:
  #   orders: {}
  #   customers: { exclude_columns: [ssn] }
  #   inventory: { mode: stream-only, include_columns: [id, quantity] }

# copy:
#   parallel: 2           # COPY connections of one worker
#   file_size: 128MB

# stream:
#   flush_interval: 10s   # the longest time until a change is in a file

# http: 127.0.0.1:8080    # metrics for Prometheus and health
`;
}
