import { Argument, type Command } from 'commander';
import type { z } from 'zod';
import { PicketError } from '../../shared/errors/errors.ts';
import { ENFORCEMENT_MODES } from '../../shared/policy/enforcement.ts';
import {
  enforcement,
  enforcementPage,
  enforcementReport,
  type EnforcementReport,
} from '../../shared/protocol/enforcement.ts';
import { durationOption } from '../duration-option.ts';
import { withExamples } from '../example.ts';
import { fields, table, type Output } from '../output.ts';
import type { ServerClient } from '../server-client.ts';
import { openSession } from '../session.ts';

type Enforcement = z.output<typeof enforcement>;

interface ReportOptions {
  /** Seconds. */
  readonly since: number;
}

interface EnforceOptions extends ReportOptions {
  readonly yes?: boolean;
}

/** `picket enforcement`: audit mode, in which what the policy denies passes and is recorded. */
export function registerEnforcement(program: Command): void {
  const modes = program
    .command('enforcement')
    .description('audit mode: record what a service’s policy would deny, block nothing, then enforce');
  withExamples(
    modes
      .command('set <scope>')
      .addArgument(new Argument('<mode>', 'enforce or audit').choices(ENFORCEMENT_MODES))
      .description('set the mode of a service, or of all below an ID (/shop/*)')
      .action(set),
    'picket enforcement set /shop/web audit',
    "picket enforcement set '/shop/*' audit",
  );
  withExamples(
    modes.command('list').description('scopes with a mode; all else is enforced').action(list),
    'picket enforcement list',
  );
  withExamples(
    sinceOption(
      modes
        .command('report <scope>')
        .description('what enforcing would break: by caller, method and path, with counts'),
    ).action(report),
    'picket enforcement report /shop/web --since 24h',
    'picket enforcement report /shop/web --json',
  );
  withExamples(
    sinceOption(
      modes
        .command('enforce <scope>')
        .description('enforce again; with something to break it shows the report, and wants --yes'),
    )
      .option('--yes', 'whatever it breaks')
      .action(enforce),
    'picket enforcement enforce /shop/web',
  );
  withExamples(
    modes
      .command('clear <scope>')
      .description('take the mode of a scope away: the nearest scope above counts, or it is enforced')
      .action(clear),
    "picket enforcement clear '/shop/*'",
  );
}

function sinceOption(command: Command): Command {
  return command.addOption(durationOption('--since <duration>', 'look back this far', '24h'));
}

async function set(scope: string, mode: string, _options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  showSet(output, await client.put(pathOf(scope), enforcement, { mode }));
}

async function list(_options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  output.result(await client.getAll('/enforcement', enforcementPage), ({ items }) =>
    table(
      items,
      [
        { title: 'scope', of: (e) => e.scope },
        { title: 'mode', of: (e) => e.mode },
        { title: 'services', of: (e) => String(e.services) },
        { title: 'set by', of: (e) => e.setBy },
        { title: 'set at', of: (e) => e.setAt },
      ],
      'Every service is enforced.',
    ),
  );
}

async function report(scope: string, options: ReportOptions, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  output.result(await fetchReport(client, scope, options), renderReport);
}

async function enforce(scope: string, options: EnforceOptions, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  const found = await fetchReport(client, scope, options);
  if (found.wouldDeny > 0 && options.yes !== true) return refuseToEnforce(output, found);
  showSet(output, await client.put(pathOf(scope), enforcement, { mode: 'enforce' }));
}

async function clear(scope: string, _options: unknown, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  await client.delete(pathOf(scope));
  output.result({ cleared: scope }, () => `Cleared ${scope}`);
}

async function fetchReport(
  client: ServerClient,
  scope: string,
  { since }: ReportOptions,
): Promise<EnforcementReport> {
  const from = new Date(Date.now() - since * 1000).toISOString();
  return await client.get(`${pathOf(scope)}/report`, enforcementReport, { since: from });
}

/** Shows what would break. Throws `failed_precondition`, reason `enforcement_would_break`. */
function refuseToEnforce(output: Output, found: EnforcementReport): never {
  output.note(`${renderReport(found)}\n`);
  throw new PicketError(
    'failed_precondition',
    'enforcement_would_break',
    `Enforcing ${found.scope} would have denied ${found.wouldDeny} of what passed since ${found.since}: change the policy, look at less with --since, or say --yes`,
    { details: { report: found } },
  );
}

function pathOf(scope: string): string {
  return `/enforcement/${encodeURIComponent(scope)}`;
}

function showSet(output: Output, made: Enforcement): void {
  output.result(made, ({ scope, mode, setBy, setAt }) =>
    fields([
      ['scope', scope],
      [
        'mode',
        `${mode}: what the policy denies ${mode === 'audit' ? 'passes, and is recorded' : 'is refused'}`,
      ],
      ['services', `${made.services} registered there now`],
      ['by', `${setBy}, ${setAt}`],
    ]),
  );
  if (made.services === 0)
    output.note('\nNo service is registered there now. Is it spelled right? picket entry list');
}

function renderReport(found: EnforcementReport): string {
  const { decisions, plaintext, wouldDeny, items, isTruncated } = found;
  const share = decisions === 0 ? '' : ` (${((100 * plaintext) / decisions).toFixed(1)} %)`;
  const summary = fields([
    ['scope', found.scope],
    ['since', found.since],
    ['decisions', String(decisions)],
    ['in plaintext', `${plaintext}${share}`],
    ['would be denied', String(wouldDeny)],
  ]);
  const lines = table(
    items,
    [
      { title: 'count', of: (i) => String(i.count) },
      { title: 'caller', of: (i) => i.caller ?? `${i.source ?? 'somebody'} (plaintext)` },
      { title: 'service', of: (i) => i.target },
      { title: 'request', of: (i) => (i.method === null ? 'tcp' : `${i.method} ${i.path ?? ''}`) },
      { title: 'reason', of: (i) => [i.reason, ...i.rules].join(' ') },
      { title: 'last', of: (i) => i.lastAt },
    ],
    'Enforcing would break nothing that passed in this time.',
  );
  return `${summary}\n\n${lines}${isTruncated ? '\n… and more' : ''}`;
}
