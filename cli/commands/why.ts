import type { Command } from 'commander';
import { MAX_LAST, whyAnswer, type WhyAnswer } from '../../agent/admin/admin-answers.ts';
import { PicketError } from '../../shared/errors/errors.ts';
import { AgentClient, withAgentSocket } from '../agent-client.ts';
import { wholeNumber } from '../duration-option.ts';
import { withExamples } from '../example.ts';
import { table } from '../output.ts';
import { outputOf } from '../session.ts';

interface WhyOptions {
  readonly last: number;
  readonly agentSocket: string;
}

type Denial = WhyAnswer['denials'][number];

/** `picket why`: why connections of this host were refused. */
export function registerWhy(program: Command): void {
  const why = program
    .command('why')
    .description('why connections and requests of this host were refused: yours, or everybody’s for root')
    .option('--last <n>', 'how many, the newest first', wholeNumber, 10)
    .action(showDenials);
  withExamples(withAgentSocket(why), 'picket why --last 1', 'picket why --json');
}

async function showDenials(options: WhyOptions, command: Command): Promise<void> {
  const { last, agentSocket } = options;
  if (last < 1 || last > MAX_LAST)
    throw new PicketError('invalid_argument', 'last_invalid', `--last must be from 1 to ${MAX_LAST}`);
  const answer = await new AgentClient(agentSocket).get('/why', whyAnswer, { last: String(last) });
  outputOf(command).result(answer, ({ denials }) =>
    table(
      denials,
      [
        { title: 'when', of: ({ record }) => record.ts },
        { title: 'from', of: ({ record }) => record.caller_spiffe_id ?? '(no identity)' },
        { title: 'to', of: targetOf },
        { title: 'reason', of: ({ record }) => record.reason },
        { title: 'message', of: ({ record }) => record.message },
        { title: 'decided by', of: deciderOf },
        { title: 'decision', of: ({ record }) => record.decision_id },
      ],
      'Nothing of yours was refused since the agent started.',
    ),
  );
}

function targetOf({ record }: Denial): string {
  const request = record.method === null ? '' : `${record.method} ${record.path ?? ''} at `;
  const name = record.target_spiffe_id === null ? '' : ` (${record.target_spiffe_id})`;
  return `${request}${record.destination}${name}`;
}

function deciderOf({ isTold }: Denial): string {
  return isTold ? 'the other host' : 'this host';
}
