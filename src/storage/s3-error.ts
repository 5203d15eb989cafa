// What an S3 server's and the AWS SDK's errors mean to a user. Nothing of a request is passed on, as its headers are
// signed with secrets: the message is made here, of the error's name and, where it helps, the server's sentence.
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
import { type ErrorCode, PgFloError } from "../base/errors.ts";
import { maskSecrets } from "../base/secrets.ts";

interface Meaning {
  readonly code: ErrorCode;
  readonly what: string;
  /** Overrides the code's general fix. */
  readonly fix?: string;
}

const NO_CREDENTIALS: Meaning = {
  code: "STORAGE_DENIED",
  what: "no credentials were found",
  fix: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role",
};
const WRONG_KEY: Meaning = {
  code: "STORAGE_DENIED",
  what: "the server does not know these credentials",
  fix: "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that they are for this server",
};
const EXPIRED: Meaning = {
  code: "STORAGE_DENIED",
  what: "the credentials have expired",
  fix: "get new ones (aws sso login, or a new session token), or use a role that renews them",
};
const DENIED: Meaning = {
  code: "STORAGE_DENIED",
  what: "access denied",
  fix: "give this role s3:PutObject, s3:GetObject, s3:DeleteObject, s3:AbortMultipartUpload, s3:ListBucket and s3:ListBucketMultipartUploads on the bucket",
};
const NO_BUCKET: Meaning = {
  code: "STORAGE_INVALID",
  what: "there is no such bucket",
  fix: "create the bucket, or correct its name in the key storage",
};
const OTHER_REGION: Meaning = { code: "STORAGE_INVALID", what: "the bucket is in another region" };
const SKEWED: Meaning = {
  code: "STORAGE_FAILED",
  what: "the clock of this machine differs too much from the server's",
  fix: "set the clock of this machine (NTP)",
};
const UNREACHABLE: Meaning = {
  code: "STORAGE_FAILED",
  what: "the server cannot be reached",
  fix: "check endpoint and region in the key storage, and the firewall",
};
const BROKEN_OFF: Meaning = { code: "STORAGE_FAILED", what: "the connection broke off" };
const BUSY: Meaning = {
  code: "STORAGE_FAILED",
  what: "the server is busy or failed",
  fix: "nothing, pg-flo tries again; if it stays, look at the server",
};
const FULL: Meaning = { code: "STORAGE_FULL", what: "the server has no space left" };
const TLS: Meaning = {
  code: "STORAGE_INVALID",
  what: "the server's certificate is not trusted",
  fix: "set NODE_EXTRA_CA_CERTS to the authority's certificate, or correct endpoint in the key storage",
};
const NOT_S3: Meaning = {
  code: "STORAGE_INVALID",
  what: "what answers is not an S3 server",
  fix: "correct endpoint in the key storage, and http or https in it",
};

const NOTHING_THERE: Meaning = {
  code: "STORAGE_INVALID",
  what: "there is no such bucket, or what answers is not an S3 server",
  fix: "correct bucket and endpoint in the key storage",
};

const MEANINGS: Readonly<Record<string, Meaning>> = {
  CredentialsProviderError: NO_CREDENTIALS,
  TokenProviderError: EXPIRED,
  InvalidAccessKeyId: WRONG_KEY,
  InvalidToken: WRONG_KEY,
  XAdminUserNotFound: WRONG_KEY,
  SignatureDoesNotMatch: { ...WRONG_KEY, what: "the signature is wrong, so the secret key is" },
  ExpiredToken: EXPIRED,
  TokenRefreshRequired: EXPIRED,
  AccessDenied: DENIED,
  Forbidden: DENIED,
  AllAccessDisabled: DENIED,
  NoSuchBucket: NO_BUCKET,
  InvalidBucketName: NO_BUCKET,
  PermanentRedirect: OTHER_REGION,
  AuthorizationHeaderMalformed: OTHER_REGION,
  IllegalLocationConstraintException: OTHER_REGION,
  RequestTimeTooSkewed: SKEWED,
  RequestExpired: SKEWED,
  NoSuchKey: {
    code: "STORAGE_FAILED",
    what: "the file is not there",
    fix: "look who removed it: files that the manifest lists must stay",
  },
  NoSuchUpload: {
    code: "STORAGE_FAILED",
    what: "the upload is gone",
    fix: "nothing, pg-flo begins the file again; if it stays, look at the bucket's lifecycle rules",
  },
  NotImplemented: {
    code: "STORAGE_INVALID",
    what: "the server does not know a request that pg-flo needs",
    fix: "add checksum=md5 to the key storage, or use another server",
  },
  BadDigest: { code: "STORAGE_FAILED", what: "the bytes changed on their way" },
  InvalidDigest: { code: "STORAGE_FAILED", what: "the bytes changed on their way" },
  XAmzContentSHA256Mismatch: { code: "STORAGE_FAILED", what: "the bytes changed on their way" },
  XAmzContentChecksumMismatch: { code: "STORAGE_FAILED", what: "the bytes changed on their way" },
  OtherBytes: {
    code: "STORAGE_FAILED",
    what: "the server stored other bytes than were sent",
    fix: "nothing, pg-flo sends them again; if it stays, look at the server",
  },
  QuotaExceeded: FULL,
  XMinioStorageFull: FULL,
  InsufficientStorage: FULL,
  ENOTFOUND: UNREACHABLE,
  EAI_AGAIN: UNREACHABLE,
  ECONNREFUSED: UNREACHABLE,
  EHOSTUNREACH: UNREACHABLE,
  ENETUNREACH: UNREACHABLE,
  ETIMEDOUT: UNREACHABLE,
  TimeoutError: UNREACHABLE,
  ECONNRESET: BROKEN_OFF,
  EPIPE: BROKEN_OFF,
  ABORT_ERR: { code: "STORAGE_FAILED", what: "it was stopped", fix: "nothing" },
  ERR_STREAM_PREMATURE_CLOSE: BROKEN_OFF,
  AbortError: { code: "STORAGE_FAILED", what: "it was stopped", fix: "nothing" },
  SlowDown: BUSY,
  InternalError: BUSY,
  ServiceUnavailable: BUSY,
  ThrottlingException: BUSY,
  RequestTimeout: BUSY,
  ForeignAnswer: NOT_S3,
  EPROTO: NOT_S3,
  ERR_SSL_WRONG_VERSION_NUMBER: NOT_S3,
  ERR_SSL_PACKET_LENGTH_TOO_LONG: NOT_S3,
  HPE_INVALID_CONSTANT: NOT_S3,
  DEPTH_ZERO_SELF_SIGNED_CERT: TLS,
  SELF_SIGNED_CERT_IN_CHAIN: TLS,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: TLS,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: TLS,
  ERR_TLS_CERT_ALTNAME_INVALID: TLS,
  CERT_HAS_EXPIRED: TLS,
};

/** For names that say nothing, such as those of a server without a sentence. */
const BY_STATUS: Readonly<Record<number, Meaning>> = {
  301: OTHER_REGION,
  307: OTHER_REGION,
  401: DENIED,
  403: DENIED,
  404: NOTHING_THERE,
  500: BUSY,
  502: BUSY,
  503: BUSY,
  504: BUSY,
  507: FULL,
};

const SENTENCE_LENGTH_MAX = 300;

/** `[STORAGE_DENIED] s3://bucket/app/…, write, access denied (AccessDenied, HTTP 403: …); give …`. A PgFloError stays as it is. */
export function s3Error(action: string, url: string, error: unknown): PgFloError {
  if (error instanceof PgFloError) return error;
  const { name, status, message, region } = partsOf(error);
  const { code, what, fix } = meaningOf(name, status, message);
  const sentence = maskSecrets(message).replace(/\s+/g, " ").trim().slice(0, SENTENCE_LENGTH_MAX);
  const details = [name, ...(status === undefined ? [] : [`HTTP ${status}`])].join(", ");
  const regionFix = `add region=${region ?? "…"} to the key storage`;
  return new PgFloError(code, `${url}, ${action}, ${what} (${details}${sentence === "" ? "" : `: ${sentence}`})`, {
    ...(what === OTHER_REGION.what ? { fix: regionFix } : fix === undefined ? {} : { fix }),
    facts: { url, error: name, status: status ?? null, missing: isMissing(error) },
    // Never the error itself: it holds the request and the response.
    cause: new Error(`${name}: ${sentence}`),
  });
}

/** The object or the upload is not there. */
export function isMissing(error: unknown): boolean {
  const { name, status } = partsOf(error);
  return ["NoSuchKey", "NoSuchUpload", "NotFound"].includes(name) || (status === 404 && name !== "NoSuchBucket");
}

/** The server does not have this kind of request. */
export function isUnsupported(error: unknown): boolean {
  const { name, status } = partsOf(error);
  return ["NotImplemented", "MethodNotAllowed"].includes(name) || status === 501 || status === 405;
}

function meaningOf(name: string, status: number | undefined, message: string): Meaning {
  const known = MEANINGS[name];
  if (known) return known;
  if (/region is missing|region not accepted/i.test(message)) {
    return {
      code: "STORAGE_INVALID",
      what: "no region is known",
      fix: "add region=… to the key storage, or set AWS_REGION",
    };
  }
  if (/credential|profile/i.test(message) && status === undefined) return NO_CREDENTIALS;
  if (/deserializ|xml|Unexpected token|Parse Error/i.test(message)) return NOT_S3;
  const byStatus = status === undefined ? undefined : BY_STATUS[status];
  return byStatus ?? { code: "STORAGE_FAILED", what: "the server refused" };
}

interface ErrorParts {
  readonly name: string;
  readonly status: number | undefined;
  readonly message: string;
  readonly region: string | undefined;
}

/** The SDK's errors are plain objects with more than they tell; a connection's has its errno in `code`. */
function partsOf(error: unknown): ErrorParts {
  if (!(error instanceof Error)) return { name: "unknown", status: undefined, message: "", region: undefined };
  const found = error as Error & {
    readonly code?: unknown;
    readonly Region?: unknown;
    readonly errors?: readonly unknown[];
    readonly $metadata?: { readonly httpStatusCode?: number };
    readonly $response?: { readonly headers?: Readonly<Record<string, string>> };
  };
  // Several addresses were tried: each says the same.
  if (found.errors?.[0] instanceof Error) return partsOf(found.errors[0]);
  const errno = typeof found.code === "string" && /^[A-Z_]+$/.test(found.code) ? found.code : undefined;
  const header = found.$response?.headers?.["x-amz-bucket-region"];
  const region =
    typeof found.Region === "string" ? found.Region : (header ?? /'([a-z0-9-]+)'$/.exec(found.message)?.[1]);
  return {
    name: errno ?? found.name,
    status: found.$metadata?.httpStatusCode,
    message: found.message,
    region,
  };
}
