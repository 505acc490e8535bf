import { defineConfig } from "vitest/config";

// One project a kind of test. Emulators share two cores, so their files run one after the other.
const MINUTE = 60_000;

export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/unit/**/*.test.ts", "test/property/**/*.test.ts"],
          testTimeout: MINUTE,
          hookTimeout: MINUTE,
          setupFiles: process.env.BASALT_COVERAGE ? ["test/coverage/setup.ts"] : [],
        },
      },
      {
        test: {
          name: "compiler",
          include: ["test/compiler/**/*.test.ts"],
          testTimeout: 5 * MINUTE,
          hookTimeout: 5 * MINUTE,
        },
      },
      {
        test: {
          name: "system",
          include: ["test/system/**/*.test.ts", "test/guests/**/*.test.ts"],
          testTimeout: 10 * MINUTE,
          hookTimeout: 10 * MINUTE,
          fileParallelism: false,
        },
      },
    ],
  },
});
