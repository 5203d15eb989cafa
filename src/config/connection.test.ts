// biome-ignore-all lint/suspicious/noTemplateCurlyInString: ${NAME} is the config's own notation
import assert from "node:assert/strict";
import { test } from "node:test";
import { mistakesOf, parse, withKey } from "../../test/support/config-text.ts";

test("a variable stands for any text, whatever it holds, also for a number", () => {
  const env = {
    PGPASSWORD: "a:b@c/d?e#f%41 \"'\n$${x}",
    PARALLEL: "8",
    FLUSH: "250ms",
    DATABASE_URL: "postgres://u:p%40@h/d",
  };
  const config = parse(
    `${withKey("source", '{ url: "postgres://repl:${PGPASSWORD}@db:6000/app" }')}
metadata: { url: "\${DATABASE_URL}" }
copy:
  parallel: \${PARALLEL}
stream: { flush_interval: "\${FLUSH}" }
`,
    env,
  );
  assert.equal(config.source.password, env.PGPASSWORD);
  assert.equal(config.source.host, "db");
  assert.equal(config.metadata.password, "p@");
  assert.equal(config.copy.parallel, 8);
  assert.equal(config.stream.flushIntervalMs, 250);
  const escaped = parse(withKey("storage", '"/a/$${HOME}/$x/${NAME}"'), { NAME: "${n}" });
  assert.deepEqual(escaped.storage, { kind: "local", root: "/a/${HOME}/$x/${n}" });
  const inHost = parse(withKey("source", '{ url: "postgres://u:p@${WHERE}" }'), { WHERE: "h:77/d?sslmode=allow" });
  assert.deepEqual([inHost.source.host, inHost.source.port, inHost.source.sslMode], ["h", 77, "allow"]);
});

test("a missing variable is named, and nothing else is said about its key", () => {
  const message = mistakesOf(
    withKey("source", '{ url: "postgres://u:${NOPE}@h/d", host: "${A-B}", user: "${X", password: "${constructor}" }'),
  );
  assert.match(message, /source\.url \(line 6\) names \$\{NOPE\}, which is not set in the environment/);
  assert.match(message, /source\.host \(line 6\) has a variable that is not a name/);
  assert.match(message, /source\.user \(line 6\) has a \$\{ that is not closed/);
  assert.match(message, /source\.password \(line 6\) names \$\{constructor\}/);
  assert.match(message, /4 mistakes/);
});

test("URLs are read as libpq reads them", () => {
  const url = (text: string) => parse(withKey("source", `{ url: "${text}" }`)).source;
  assert.equal(url("postgres:///app?host=/var/run/postgresql&user=u").host, "/var/run/postgresql");
  assert.equal(url("postgres://u@%2Fvar%2Frun/app").host, "/var/run");
  assert.equal(url("postgresql://u@/app").host, "localhost");
  assert.equal(url("postgres://u%20x:p%C3%A9%2F@h/my%20db").password, "pé/");
  assert.equal(url("postgres://u%20x:p@h/my%20db").database, "my db");
  assert.equal(url("postgres://u:a@b#c@h:1/d").password, "a@b#c");
  assert.equal(url("postgres://h/d?user=u&password=x%26y&port=9&dbname=e").database, "e");
  assert.equal(url("postgres://u@h/d?ssl=true").sslMode, "require");
  assert.equal(url("postgres://u@h/d?sslrootcert=ca.pem&sslmode=verify-ca").sslRootCert, "/etc/flo/ca.pem");
  assert.equal(url("postgres://u@h/d?sslrootcert=system").sslRootCert, "system");
  const both = parse(withKey("source", '{ url: "postgres://h/d", user: u, password: "p w", sslmode: require }')).source;
  assert.deepEqual([both.user, both.password, both.sslMode], ["u", "p w", "require"]);
});

test("a wrong URL is told without any piece of its password", () => {
  const wrong: [string, RegExp][] = [
    ["postgres://u:hunter2@h:port/d", /a port that is not a number/],
    ["postgres://u:hunter2", /a port that is not a number/],
    ["postgres://u:12/hunter2@h/d", /an @ after the host/],
    ["postgres://u:12?hunter2@h/d", /an @ after the host/],
    ["postgres://u:hunter2%zz@h/d", /a % in its password/],
    ["postgres://u:hunter2@h/d?sslmode=on", /a wrong sslmode, allowed is disable, allow/],
    ["postgres://u:hunter2@h:99999/d", /a wrong port, allowed is a whole number/],
    ["postgres://u:hunter2@h/d?channel_binding=require", /the setting "channel_binding", allowed are sslmode/],
    ["postgres://u:hunter2@a,b/d", /more than one host/],
    ["postgres://u:hunter2@a:1:2/d", /a port that is not a number/],
    ["postgres://u:hunter2@h", /database \(line 6\) is missing/],
    ["u:hunter2@h/d", /does not begin with postgres/],
  ];
  for (const [url, expected] of wrong) {
    const message = mistakesOf(withKey("source", `{ url: "${url}" }`));
    assert.match(message, expected);
    assert.ok(!message.includes("hunter2"), message);
  }
  assert.match(
    mistakesOf(withKey("source", '{ url: "postgres://u@h/d", user: v }')),
    /source\.user .* here and in the url/,
  );
});

test("no mistake shows a secret that stands where it does not belong", () => {
  for (const text of [
    withKey("source", '"postgres://u:hunter2@h/d"'),
    withKey("source", "{ password:hunter2 }"),
    withKey("source", "\n  password:hunter2"),
    withKey("source", "\n  password:hunter2\n  user: x"),
    withKey("source", "{ password: [hunter2], user: { hunter: 2 } }"),
    withKey("source", "{ password: *hunter2 }"),
    withKey("source", "{ password: !hunter2 x }"),
    withKey("source", '{ password: "hunter2'),
    withKey("source", "{ password: }hunter2 }"),
    withKey("storage", "https://u:hunter2@h/x"),
    withKey("storage", '"s3://b/p?secret_access_key=hunter2"'),
  ]) {
    const message = mistakesOf(text);
    assert.ok(!message.includes("hunter2"), message);
  }
});

test("sslrootcert=system asks for the whole check of the certificate, as with libpq", () => {
  const url = "postgres://u@h/d?sslrootcert=system";
  assert.equal(parse(withKey("source", `{ url: "${url}" }`)).source.sslMode, "verify-full");
  const message = mistakesOf(withKey("source", `{ url: "${url}", sslmode: require }`));
  assert.match(message, /source\.sslmode \(line 6\) is weaker than sslrootcert=system allows, allowed is verify-full/);
});
