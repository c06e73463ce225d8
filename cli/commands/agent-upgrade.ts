import type { Command } from 'commander';
import { upgradeAnswer, type UpgradeAnswer } from '../../agent/admin/admin-answers.ts';
import { AgentClient, withAgentSocket } from '../agent-client.ts';
import { withExamples } from '../example.ts';
import { outputOf } from '../session.ts';

/** Longer than the agent takes to say that it could not be replaced. */
const TIMEOUT_MS = 30_000;

/** `picket agent upgrade`: another process takes over from the running agent, and no connection is refused or cut for it. */
export function registerUpgrade(agent: Command): void {
  withExamples(
    withAgentSocket(
      agent
        .command('upgrade')
        .description(
          'replace the running agent by the binary and the settings that are there now, without a gap',
        ),
    ).action(async ({ agentSocket }: { readonly agentSocket: string }, command: Command) => {
      const upgraded = await new AgentClient(agentSocket).post('/upgrade', upgradeAnswer, TIMEOUT_MS);
      outputOf(command).result(upgraded, renderUpgrade);
    }),
    'install -m 0755 picket /usr/local/bin/picket && picket agent upgrade',
  );
}

function renderUpgrade({ pid, version, tookMs, connections, drainMs }: UpgradeAnswer): string {
  const left =
    connections === 0
      ? 'no connection was left with the old one'
      : `${connections} connections stay with the old one until they end, ${drainMs / 1000} s at most`;
  return `Version ${version} (pid ${pid}) has taken over within ${tookMs} ms; ${left}`;
}
