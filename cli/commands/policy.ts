import { Argument, Option, type Command } from 'commander';
import {
  policyActivated,
  policyContent,
  policyPage,
  policyPublished,
} from '../../shared/protocol/operator.ts';
import { wholeNumber } from '../duration-option.ts';
import { withExamples } from '../example.ts';
import { table } from '../output.ts';
import { readPolicyFiles } from '../policy-files.ts';
import { openSession } from '../session.ts';
import { registerPolicyEvaluate } from './policy-evaluate.ts';

/** `picket policy`: publish, roll back, ask. */
export function registerPolicy(program: Command): void {
  const policy = program
    .command('policy')
    .description('policies: publish, list, roll back, ask what would be decided');
  withExamples(
    policy
      .command('publish <path>')
      .description('check a Rego file or folder, sign it and put it in force; a bad one changes nothing')
      .option('-m, --message <text>', 'why, for the list of versions')
      .addOption(targetOption())
      .addOption(
        new Option('--rego-version <n>', 'Rego version of the files: 1, or 0 for older ones').choices([
          '0',
          '1',
        ]),
      )
      .action(publish),
    'picket policy publish ./policies -m "invoices may be read by the shop"',
  );
  withExamples(
    policy.command('list').description('versions, newest first').addOption(targetOption()).action(list),
    'picket policy list',
  );
  withExamples(
    policy
      .command('show')
      .description('the files of a version')
      .addArgument(versionArgument())
      .addOption(targetOption())
      .action(show),
    'picket policy show 3',
  );
  withExamples(
    policy
      .command('rollback')
      .description('put an older version’s content in force again, under a new sequence')
      .addArgument(versionArgument())
      .addOption(targetOption())
      .action(rollback),
    'picket policy rollback 3',
  );
  registerPolicyEvaluate(policy);
}

function versionArgument(): Argument {
  return new Argument('<version>', 'number of a version, as picket policy list shows it').argParser(
    wholeNumber,
  );
}

function targetOption(): Option {
  return new Option('--target <target>', 'whose policy').choices(['mesh', 'admin']).default('mesh');
}

interface TargetOption {
  readonly target: string;
}

async function publish(
  path: string,
  options: TargetOption & { readonly message?: string; readonly regoVersion?: '0' | '1' },
  command: Command,
): Promise<void> {
  const { client, output } = openSession(command);
  const files = readPolicyFiles(path);
  output.note(
    `Publishing ${Object.keys(files).length} file(s): checked, tested and compiled before anything changes …`,
  );
  const body = {
    files,
    message: options.message ?? '',
    ...(options.regoVersion === undefined ? {} : { rego_version: Number(options.regoVersion) }),
  };
  const published = await client.post(
    `/policies?target=${encodeURIComponent(options.target)}`,
    policyPublished,
    body,
  );
  output.result(
    published,
    (p) =>
      `Version ${p.version} is in force (sequence ${p.sequence}, ${p.digest.slice(0, 12)}); ${p.testCount} of its own tests passed`,
  );
  for (const warning of published.warnings) output.note(`warning: ${warning}`);
}

async function list(options: TargetOption, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  output.result(await client.getAll('/policies', policyPage, { target: options.target }), ({ items }) =>
    table(
      items,
      [
        { title: 'version', of: (p) => String(p.version) },
        {
          title: 'state',
          of: (p) => (p.activeSequence === null ? '' : `in force (sequence ${p.activeSequence})`),
        },
        { title: 'created', of: (p) => p.createdAt },
        { title: 'by', of: (p) => p.createdBy },
        { title: 'digest', of: (p) => p.digest.slice(0, 12) },
        { title: 'message', of: (p) => p.message },
      ],
      'No policy was published yet: everything is denied.',
    ),
  );
}

async function show(version: number, options: TargetOption, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  const content = await client.get(`/policies/${version}`, policyContent, {
    target: options.target,
  });
  output.result(content, ({ files }) =>
    Object.entries(files)
      .map(([name, text]) => `# ${name}\n${text.trimEnd()}\n`)
      .join('\n'),
  );
}

async function rollback(version: number, options: TargetOption, command: Command): Promise<void> {
  const { client, output } = openSession(command);
  const body = { version, target: options.target };
  output.result(
    await client.post('/policies/rollback', policyActivated, body),
    (p) => `Version ${p.version} is in force again (sequence ${p.sequence})`,
  );
}
