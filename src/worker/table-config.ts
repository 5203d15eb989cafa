// What the config says of one table.
import type { Config, TableConfig } from "../config/config.ts";

/** Nothing for a table that came by `"*"`. */
export function tableConfig(config: Pick<Config, "schemas">, schema: string, table: string): Partial<TableConfig> {
  const ofSchema = config.schemas[schema];
  return ofSchema === undefined || ofSchema === "*" ? {} : (ofSchema[table] ?? {});
}
