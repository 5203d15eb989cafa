/** How pages of files are compressed: zstd at its level 1, 2 or 3, or Snappy, which is quicker and gives larger files. */
export const compressions = ["zstd", "zstd-2", "zstd-3", "snappy"] as const;

export type Compression = (typeof compressions)[number];
