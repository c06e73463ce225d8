import type { Command } from 'commander';
import { withExamples } from '../example.ts';
import { fields } from '../output.ts';
import { outputOf } from '../session.ts';
import { COMMIT, VERSION } from '../version.ts';

export function registerVersion(program: Command): void {
  withExamples(
    program.command('version').description('print the version of this binary').action(showVersion),
    'picket version',
  );
}

function showVersion(_options: unknown, command: Command): void {
  const version = {
    version: VERSION,
    commit: COMMIT,
    bun: Bun.version,
    platform: `${process.platform}-${process.arch}`,
  };
  outputOf(command).result(version, (v) =>
    fields([
      ['picket', v.version],
      ['commit', v.commit],
      ['bun', v.bun],
      ['platform', v.platform],
    ]),
  );
}
