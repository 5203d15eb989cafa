// `s3://bucket/prefix?region=…` as a config. Credentials are refused here: they come from the environment, the AWS config
// files or the machine's role, and a URL is copied into tickets and logs. No value of the query is ever shown.
import type { S3StorageConfig } from "../base/storage-config.ts";
import { nearestKey } from "./nearest-key.ts";

/** What may stand behind the `?`, with what is allowed. docs/config.md is tested against it. */
export const s3Options = {
  region: { allowed: "a region such as eu-central-1", pattern: /^[a-z0-9-]{1,40}$/ },
  endpoint: { allowed: "http://host:port or https://host:port of a server that is not AWS", pattern: /^https?:\/\// },
  path_style: { allowed: "true or false", pattern: /^(true|false)$/ },
  profile: { allowed: "a profile of the AWS config files", pattern: /^[^\s]{1,100}$/ },
  checksum: { allowed: "crc32 or md5", pattern: /^(crc32|md5)$/ },
  sse: { allowed: "AES256 or aws:kms", pattern: /^(AES256|aws:kms)$/ },
  sse_kms_key_id: { allowed: "the id or ARN of a KMS key", pattern: /^[\w:/-]{1,300}$/ },
} as const satisfies Record<string, { readonly allowed: string; readonly pattern: RegExp }>;

type OptionName = keyof typeof s3Options;
type OptionValues = Readonly<Partial<Record<OptionName, string>>>;

export type S3Location = { readonly storage: S3StorageConfig } | { readonly mistake: string };

/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html; other servers also take `_`. */
const BUCKET = /^[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]$/;

/** The storage, or the first thing that is wrong with it, to be put behind `storage is "s3://…", `. */
export function parseS3Location(text: string): S3Location {
  const [, bucket = "", path = "", query = "", fragment] =
    /^s3:\/\/([^/?#]*)\/?([^?#]*)(?:\?([^#]*))?(#.*)?$/i.exec(text) ?? [];
  if (/@/.test(bucket)) {
    return { mistake: "credentials do not belong here, allowed are AWS_ACCESS_KEY_ID and its like in the environment" };
  }
  if (!BUCKET.test(bucket)) {
    return { mistake: "allowed is s3://bucket/prefix, the bucket 3 to 63 characters of a-z, 0-9, -, _ and ." };
  }
  if (fragment !== undefined) return { mistake: "allowed is no # in it" };
  const prefix = parsePrefix(path);
  if (prefix === null) return { mistake: "allowed is a prefix of folders, without empty ones, . and .." };
  const options = parseOptions(query);
  if (typeof options === "string") return { mistake: options };
  const { region, endpoint, profile, sse, sse_kms_key_id: kmsKeyId } = options;
  if (endpoint !== undefined && !isEndpoint(endpoint)) {
    return { mistake: `endpoint is wrong (its value is not shown), allowed is ${s3Options.endpoint.allowed}` };
  }
  if (kmsKeyId !== undefined && sse !== "aws:kms") return { mistake: "sse_kms_key_id needs sse=aws:kms" };
  const storage: S3StorageConfig = {
    kind: "s3",
    bucket,
    prefix,
    ...(region === undefined ? {} : { region }),
    ...(endpoint === undefined ? {} : { endpoint: new URL(endpoint).origin }),
    // A server of one's own seldom has a host name for every bucket.
    pathStyle: options.path_style === undefined ? endpoint !== undefined : options.path_style === "true",
    ...(profile === undefined ? {} : { profile }),
    checksum: options.checksum === "md5" ? "md5" : "crc32",
    ...(sse === undefined ? {} : { encryption: sse === "AES256" ? "AES256" : "aws:kms" }),
    ...(kmsKeyId === undefined ? {} : { kmsKeyId }),
  };
  return { storage };
}

function parsePrefix(path: string): string | null {
  const prefix = path.replace(/\/$/, "");
  if (prefix === "") return path === "" ? "" : null;
  const wrong = prefix.split("/").some((part) => part === "" || part === "." || part === "..");
  return wrong || /[\\\p{Cc}]/u.test(prefix) ? null : prefix;
}

/** The options, or the mistake. */
function parseOptions(query: string): OptionValues | string {
  const values: Partial<Record<OptionName, string>> = {};
  for (const [name, value] of new URLSearchParams(query)) {
    if (!isOption(name)) {
      const near = nearestKey(name, Object.keys(s3Options));
      const hint = /key|secret|token|pass/i.test(name) ? ": credentials come from the environment" : "";
      const question = near ? `, did you mean ${near}?` : ",";
      return `${JSON.stringify(name.slice(0, 40))} is not an option of it${hint}${question} Allowed are ${Object.keys(s3Options).join(", ")}`;
    }
    if (values[name] !== undefined) return `${name} is there twice, allowed is once`;
    if (!s3Options[name].pattern.test(value)) {
      return `${name} is wrong (its value is not shown), allowed is ${s3Options[name].allowed}`;
    }
    values[name] = value;
  }
  return values;
}

function isOption(name: string): name is OptionName {
  return Object.hasOwn(s3Options, name);
}

function isEndpoint(text: string): boolean {
  const url = URL.parse(text);
  return url !== null && url.username === "" && url.password === "" && url.pathname === "/" && url.search === "";
}
