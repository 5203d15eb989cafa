// How the pages of a column chunk are compressed, by the ids of CompressionCodec in parquet.thrift.
import { zstdDecompressSync } from "node:zlib";
import { malformedFile } from "./thrift-reader.ts";

export const CODEC_SNAPPY = 1;
export const CODEC_ZSTD = 6;

export type Decompress = (bytes: Uint8Array) => Uint8Array;

/** Throws INTERNAL for a codec that our writer does not use. */
export async function decompressorOf(codec: number): Promise<Decompress> {
  if (codec === CODEC_ZSTD) return zstdDecompressSync;
  if (codec !== CODEC_SNAPPY) throw malformedFile(`a column chunk of codec ${codec}`);
  const { uncompressSync } = await import("snappy");
  return (bytes) => uncompressSync(bytes) as Buffer;
}
