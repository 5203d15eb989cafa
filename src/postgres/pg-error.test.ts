import assert from "node:assert/strict";
import { test } from "node:test";
import { PgFloError } from "../base/errors.ts";
import { sqlState, toPgFloError } from "./pg-error.ts";

function thrown(message: string, code?: string): Error {
  return Object.assign(new Error(message), code === undefined ? {} : { code });
}

const cases: readonly [error: Error, code: string][] = [
  [thrown("connect ECONNREFUSED 127.0.0.1:1", "ECONNREFUSED"), "CONNECTION_FAILED"],
  [thrown("getaddrinfo ENOTFOUND nix", "ENOTFOUND"), "CONNECTION_FAILED"],
  [thrown("connect ETIMEDOUT", "ETIMEDOUT"), "CONNECTION_FAILED"],
  [thrown("timeout expired"), "CONNECTION_FAILED"],
  [thrown("the database system is starting up", "57P03"), "CONNECTION_FAILED"],
  [thrown("sorry, too many clients already", "53300"), "CONNECTION_FAILED"],
  [thrown("read ECONNRESET", "ECONNRESET"), "CONNECTION_LOST"],
  [thrown("write EPIPE", "EPIPE"), "CONNECTION_LOST"],
  [thrown("Connection terminated unexpectedly"), "CONNECTION_LOST"],
  [thrown("Client has encountered a connection error and is not queryable"), "CONNECTION_LOST"],
  [thrown("terminating connection due to administrator command", "57P01"), "CONNECTION_LOST"],
  [thrown("server closed the connection", "08006"), "CONNECTION_LOST"],
  [thrown("password authentication failed", "28P01"), "AUTHENTICATION_FAILED"],
  [thrown("no pg_hba.conf entry", "28000"), "AUTHENTICATION_FAILED"],
  [thrown('database "x" does not exist', "3D000"), "AUTHENTICATION_FAILED"],
  [thrown("SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string"), "AUTHENTICATION_FAILED"],
  [thrown("permission denied for table x", "42501"), "PERMISSION_DENIED"],
  [thrown("self-signed certificate", "DEPTH_ZERO_SELF_SIGNED_CERT"), "TLS_FAILED"],
  [thrown("unable to verify", "UNABLE_TO_VERIFY_LEAF_SIGNATURE"), "TLS_FAILED"],
  [thrown("expired", "CERT_HAS_EXPIRED"), "TLS_FAILED"],
  [thrown("altname", "ERR_TLS_CERT_ALTNAME_INVALID"), "TLS_FAILED"],
  [thrown("wrong version number", "ERR_SSL_WRONG_VERSION_NUMBER"), "TLS_FAILED"],
  [thrown("The server does not support SSL connections"), "TLS_FAILED"],
  [thrown('replication slot "a" is active for PID 1', "55006"), "SLOT_IN_USE"],
  [thrown("all replication slots are in use", "53400"), "NO_FREE_SLOT"],
  [thrown('can no longer get changes from replication slot "a"', "55000"), "SLOT_LOST"],
  [thrown('replication slot "a" does not exist', "42704"), "SLOT_LOST"],
  [thrown("requested WAL segment 0001 has already been removed", "58P01"), "SLOT_LOST"],
  [thrown("logical decoding requires wal_level >= logical", "55000"), "PREFLIGHT_FAILED"],
  [thrown('publication "p" does not exist', "42704"), "PREFLIGHT_FAILED"],
  [thrown('invalid snapshot identifier: "x"', "22023"), "SNAPSHOT_LOST"],
  [thrown("could not import the requested snapshot", "55000"), "SNAPSHOT_LOST"],
  [thrown("no binary output function available for type seg", "42883"), "NEEDS_TEXT"],
  [thrown("canceling statement due to lock timeout", "55P03"), "SERVER_BUSY"],
  [thrown("canceling statement due to statement timeout", "57014"), "SERVER_BUSY"],
  [thrown("could not extend file: No space left", "53100"), "SERVER_BUSY"],
  [thrown('relation "public.t" does not exist', "42P01"), "TABLE_CHANGED"],
  [thrown('relation "_pg_flo.files" does not exist', "42P01"), "METADATA_CORRUPT"],
  [thrown('could not map filenode "base/1/2" to relation OID', "XX000"), "SERVER_FAILED"],
  [thrown('could not read block 0 in file "base/1/2": Input/output error', "58030"), "SERVER_FAILED"],
  [thrown("something new", "0LP01"), "INTERNAL"],
  [thrown("something new"), "INTERNAL"],
];

test("every kind of failure has its code", () => {
  for (const [error, code] of cases) {
    const result = toPgFloError(error, "do a thing");
    assert.equal(result.code, code, error.message);
    assert.ok(result.message.startsWith(`[${code}] do a thing, `), result.message);
    assert.equal(result.cause, error);
  }
});

test("messages that quote values are not repeated", () => {
  for (const code of ["22P02", "23505", "22003"]) {
    const result = toPgFloError(thrown('invalid input syntax: "secret value"', code), "read a table");
    assert.ok(!result.message.includes("secret value"));
    assert.match(result.message, new RegExp(code));
  }
});

test("an error of ours stays as it is", () => {
  const ours = new PgFloError("SLOT_LOST", "x");
  assert.equal(toPgFloError(ours, "y"), ours);
});

test("refusals of all addresses of a name are told", () => {
  const error = Object.assign(new AggregateError([thrown("connect ECONNREFUSED ::1:1", "ECONNREFUSED")], ""), {
    code: "ECONNREFUSED",
  });
  assert.match(toPgFloError(error, "connect").message, /ECONNREFUSED ::1:1/);
});

test("only the server's codes are SQLSTATEs", () => {
  assert.equal(sqlState(thrown("x", "42P01")), "42P01");
  assert.equal(sqlState(thrown("x", "EPIPE")), undefined);
  assert.equal(sqlState("x"), undefined);
});
