// Connection URLs of libpq: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
// Takes them apart and no more: the values are checked like the keys of the config. Stricter than libpq in one thing:
// an @ after the host must be percent-encoded, because there it is nearly always a piece of an unencoded password.

export interface ParsedUrl {
  /** By the names of the config's keys (libpq's dbname is `database`). */
  readonly settings: Readonly<Record<string, string>>;
  /** What is wrong, without any piece of the URL that could be secret. */
  readonly problems: readonly string[];
}

const SETTINGS = "sslmode, sslrootcert, sslcert, sslkey, connect_timeout, host, port, user, password, dbname";

/** Takes a URL apart. Never throws. */
export function parseConnectionUrl(url: string): ParsedUrl {
  const scheme = /^postgres(?:ql)?:\/\//.exec(url);
  if (!scheme) return { settings: {}, problems: ["does not begin with postgres:// or postgresql://"] };
  const [, userInfo, hostInfo, path, query] = /^(?:([^/?]*)@)?([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/s.exec(
    url.slice(scheme[0].length),
  )!;
  if (`${path ?? ""}${query ?? ""}`.includes("@")) {
    return {
      settings: {},
      problems: ["has an @ after the host; write / ? # @ in a user or password as %2F %3F %23 %40"],
    };
  }
  const settings: Record<string, string> = {};
  const problems: string[] = [];
  const put = (key: string, encoded: string | undefined) => {
    if (encoded === undefined || encoded === "") return;
    const value = decode(encoded);
    if (value === undefined) problems.push(`has a % in its ${key} that is not followed by the digits of a UTF-8 byte`);
    else settings[key] = value;
  };
  const colon = userInfo?.indexOf(":") ?? -1;
  put("user", colon < 0 ? userInfo : userInfo!.slice(0, colon));
  put("password", colon < 0 ? undefined : userInfo!.slice(colon + 1));
  problems.push(...putHost(hostInfo!, put));
  put("database", path);
  for (const pair of query ? query.split("&") : []) problems.push(...putSetting(pair, put));
  return { settings, problems };
}

type Put = (key: string, encoded: string | undefined) => void;

function putHost(hostInfo: string, put: Put): string[] {
  const match = /^(\[[^\]]*\]|[^:]*)(?::(.*))?$/s.exec(hostInfo);
  if (!match) return ["has more than one colon after the host; an IPv6 address is written in brackets"];
  if (hostInfo.includes(",")) return ["names more than one host, allowed is one"];
  if (match[2] && !/^\d+$/.test(match[2])) {
    return ["has a port that is not a number; write / ? # @ in a user or password as %2F %3F %23 %40"];
  }
  put("host", match[1]!.replace(/^\[(.*)\]$/s, "$1"));
  put("port", match[2]);
  return [];
}

function putSetting(pair: string, put: Put): string[] {
  const equals = pair.indexOf("=");
  const name = equals < 0 ? pair : pair.slice(0, equals);
  const value = pair.slice(equals + 1);
  if (equals < 0) return [`has a setting without a value after its ?, allowed are ${SETTINGS}`];
  if (name === "ssl" && value === "true")
    put("sslmode", "require"); // as libpq reads JDBC's URLs
  else if (name === "dbname") put("database", value);
  else if (SETTINGS.split(", ").includes(name)) put(name, value);
  else return [`has the setting ${JSON.stringify(name.slice(0, 40))}, allowed are ${SETTINGS}`];
  return [];
}

function decode(encoded: string): string | undefined {
  try {
    return decodeURIComponent(encoded);
  } catch (error) {
    if (error instanceof URIError) return undefined;
    throw error;
  }
}
