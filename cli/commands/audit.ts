import { Option, type Command } from 'commander';
import type { AccessRecord } from '../../shared/protocol/audit.ts';
import { accessPage, operatorActionPage } from '../../shared/protocol/operator.ts';
import { wholeNumber } from '../duration-option.ts';
import { withExamples } from '../example.ts';
import { table, type Output } from '../output.ts';
import { openSession } from '../session.ts';

interface PageOptions {
  readonly limit: number;
  readonly cursor?: string;
}

interface AccessOptions extends PageOptions {
  readonly caller?: string;
  readonly target?: string;
  readonly from?: string;
  readonly to?: string;
  readonly decision?: string;
  readonly decisionId?: string;
  readonly wouldDeny?: boolean;
}

/** `picket audit`: who asked for what, and what operators did. */
export function registerAudit(program: Command): void {
  const audit = program
    .command('audit')
    .description('the record: decisions of the mesh, actions of operators');
  withExamples(
    audit
      .command('access')
      .description('decisions, newest first')
      .option('--caller <id>', 'SPIFFE ID of the caller')
      .option('--target <id>', 'SPIFFE ID of the called workload')
      .option('--from <time>', 'RFC 3339, inclusive')
      .option('--to <time>', 'RFC 3339, exclusive')
      .addOption(new Option('--decision <decision>', 'only such').choices(['allow', 'deny']))
      .option('--would-deny', 'only what passed in audit mode and would have been denied')
      .option('--decision-id <id>', 'one decision, as named in a 403 or by picket why')
      .option('--limit <n>', 'records on this page', wholeNumber, 50)
      .option('--cursor <cursor>', 'the following page')
      .action(access),
    'picket audit access --caller spiffe://example.org/ns/shop/sa/web --decision deny',
    'picket audit access --target spiffe://example.org/ns/shop/sa/web --would-deny',
  );
  withExamples(
    audit
      .command('operators')
      .description('what operators did or were refused')
      .option('--limit <n>', 'records on this page', wholeNumber, 50)
      .option('--cursor <cursor>', 'the following page')
      .action(operators),
    'picket audit operators --json',
  );
}

async function access(options: AccessOptions, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  const { decisionId, wouldDeny, ...query } = options;
  const page = await client.get('/audit/access', accessPage, {
    ...query,
    decision_id: decisionId,
    would_deny: wouldDeny === true ? 'true' : undefined,
  });
  output.result(page, ({ items }) =>
    table(
      items,
      [
        { title: 'time', of: (r) => r.ts },
        { title: 'decision', of: (r) => (r.would_deny === true ? 'would deny' : r.decision) },
        { title: 'caller', of: (r) => r.caller_spiffe_id ?? r.source },
        { title: 'target', of: (r) => r.target_spiffe_id ?? r.server_name ?? r.destination },
        { title: 'request', of: renderRequest },
        { title: 'reason', of: (r) => r.reason },
        { title: 'side', of: (r) => r.direction },
        { title: 'via', of: (r) => r.via ?? '-' },
        { title: 'policy', of: (r) => (r.policy_version === null ? '-' : String(r.policy_version)) },
        { title: 'us', of: (r) => r.latency_us.toFixed(0) },
        { title: 'decision id', of: (r) => r.decision_id },
      ],
      'No decision matches.',
    ),
  );
  noteMore(output, page);
}

function renderRequest({ method, path, protocol, inspected }: AccessRecord): string {
  if (method === null) return inspected === true ? `${protocol}, inspected` : protocol;
  return inspected === true ? `${method} ${path ?? ''} within TLS` : `${method} ${path ?? ''}`;
}

async function operators(options: PageOptions, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  const page = await client.get('/audit/operators', operatorActionPage, { ...options });
  output.result(page, ({ items }) =>
    table(
      items,
      [
        { title: 'time', of: (a) => a.ts },
        { title: 'actor', of: (a) => a.actor },
        { title: 'action', of: (a) => a.action },
        { title: 'subject', of: (a) => a.subject },
        { title: 'decision', of: (a) => a.decision },
        { title: 'outcome', of: (a) => a.outcome },
      ],
      'Nothing was done yet.',
    ),
  );
  noteMore(output, page);
}

function noteMore(output: Output, { next }: { readonly next: string | null }): void {
  if (next !== null) output.note(`\nMore: --cursor ${next}`);
}
