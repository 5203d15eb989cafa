/** How pages of files are compressed: zstd at its level 1, 2 or 3, or Snappy, for readers without zstd. */
export const compressions = ["zstd", "zstd-2", "zstd-3", "snappy"] as const;

export type Compression = (typeof compressions)[number];
