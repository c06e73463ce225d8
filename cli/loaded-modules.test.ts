import { describe, expect, test } from 'bun:test';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';

/** What a role has loaded it keeps in memory for months: nothing of what others need may be among it. */

const root = join(import.meta.dirname, '..');
const OTHERS =
  /^server\/|^shared\/protocol\/operator|node_modules\/(@peculiar|drizzle-orm|@electric-sql|postgres)/;
/** The Workload API's, for hosts where somebody asks it. */
const GRPC = /node_modules\/(@bufbuild|@connectrpc)/;

describe('picket agent', () => {
  test('loads nothing of the server, nothing that only operators need, and no gRPC before somebody asks', async () => {
    const loaded = await loadedBy('agent', 'config-example');
    expect(loaded).toContain('cli/commands/agent.ts');
    expect(loaded.filter((path) => OTHERS.test(path) || GRPC.test(path))).toEqual([]);
    expect(loaded.filter((path) => path.startsWith('cli/commands/')).toSorted()).toEqual([
      'cli/commands/agent-capture.ts',
      'cli/commands/agent-options.ts',
      'cli/commands/agent-upgrade.ts',
      'cli/commands/agent.ts',
      'cli/commands/successor-command.ts',
      'cli/commands/worker-command.ts',
    ]);
  });
});

/** Modules of the process that runs a command, with the agent's own. */
async function loadedBy(...command: readonly string[]): Promise<readonly string[]> {
  const folder = mkdtempSync(join(tmpdir(), 'picket-loaded-'));
  try {
    const program = join(folder, 'tell.ts');
    const agent = JSON.stringify(join(root, 'agent/main.ts'));
    writeFileSync(
      program,
      `await import(${agent});
       process.on('exit', () => process.stderr.write(JSON.stringify(Object.keys(require.cache))));`,
    );
    const child = Bun.spawn([process.execPath, '--preload', program, join(root, 'cli/main.ts'), ...command], {
      cwd: root,
      stdin: 'ignore',
      stdout: 'ignore',
      stderr: 'pipe',
    });
    const paths = JSON.parse(await new Response(child.stderr).text()) as readonly string[];
    return paths.map((path) => relative(root, path));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
