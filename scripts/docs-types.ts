// Writes docs/types.md from the code.
import { writeFile } from "node:fs/promises";
import { typesPage } from "../src/types/types-page.ts";

await writeFile(new URL("../docs/types.md", import.meta.url), typesPage());
