// Loaded before each test file of a measured run.

import { afterAll } from "vitest";
import { writeLines } from "./collect.ts";

afterAll(writeLines);
