// In which encoding text comes over connections that carry values. pg asks for UTF8, and the server converts to it from
// every encoding but SQL_ASCII, where it does not know what the bytes mean: there it would refuse the first ones that
// are no UTF-8, and the copy or the slot would be stuck on them. So they come as they are, and are checked when written.
// Source: https://www.postgresql.org/docs/current/multibyte.html#MULTIBYTE-CONVERSIONS-SUPPORTED
import type { RawConnection } from "./raw-connection.ts";

/** Before any value is read. Also on a walsender's connection, whose output is converted in the same way. */
export async function takeBytesAsTheyAre(connection: RawConnection): Promise<void> {
  await connection.query(
    `select set_config('client_encoding', 'SQL_ASCII', false) where current_setting('server_encoding') = 'SQL_ASCII'`,
  );
}
