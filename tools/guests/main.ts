/** `npm run guests [flavour]`: builds the Linux guest and prints where its files are, as JSON on the last line. */

import { linuxGuest } from "./guests.ts";

try {
  console.log(JSON.stringify(linuxGuest(process.argv[2], (text) => console.log(text))));
} catch (error) {
  console.error(`guests: ${(error as Error).message}`);
  process.exitCode = 1;
}
