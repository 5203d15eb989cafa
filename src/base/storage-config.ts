// Which storage a group writes to. Lives in base because config makes it and storage opens it.

export interface LocalStorageConfig {
  readonly kind: "local";
  readonly root: string; // absolute path
}

export interface S3StorageConfig {
  readonly kind: "s3";
  readonly bucket: string;
  /** Folders below the bucket, without a slash at either end; empty for the bucket itself. */
  readonly prefix: string;
  /** Default: what the environment or the profile says. */
  readonly region?: string;
  /** `http://host:port` of a server that is not AWS. */
  readonly endpoint?: string;
  /** The bucket in the path instead of the host name. */
  readonly pathStyle: boolean;
  /** Of the AWS config files. */
  readonly profile?: string;
  /** What the server checks the bytes by. */
  readonly checksum: "crc32" | "md5";
  readonly encryption?: "AES256" | "aws:kms";
  readonly kmsKeyId?: string;
}

export type StorageConfig = LocalStorageConfig | S3StorageConfig;
