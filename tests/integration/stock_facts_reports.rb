# Runs a Puppet with its PuppetDB terminus, and notes what the terminus would send instead of sending it.
#
#   ruby stock_facts_reports.rb run OUT puppet-arguments…   one real run of Puppet's own command line
#   ruby stock_facts_reports.rb agent OUT CONFDIR VARDIR CODE
#                                                           one run of the agent, which compiles CODE here
#   ruby stock_facts_reports.rb objects OUT CONFDIR VARDIR REPORT.yaml…
#                                                           facts, reports read back, and objects made for a case
#
# OUT gets files for each object: NAME.yaml as Puppet's `store` processor and its cache of facts write it, NAME.json
# as the agent sends it, NAME.find.yaml as `puppet facts find` prints it, and NAME.stock.json: the command's payload,
# or the error, and the warnings.

require 'json'
require 'fileutils'
require 'puppet'
require 'puppet/util/command_line'
require 'puppet/util/puppetdb'
require 'puppet/reports'
require 'puppet/indirector/facts/puppetdb'

MODE, OUT, *REST = ARGV
FileUtils.mkdir_p(OUT)
WARNED = []

module NotSent
  def submit
    $sent = payload
    { 'uuid' => 'none' }
  end
end
Puppet::Util::Puppetdb::Command.prepend(NotSent)

module Noted
  def warning(message)
    WARNED << message
    super
  end
end
Puppet.singleton_class.prepend(Noted)

def write(name, text)
  File.binwrite(File.join(OUT, name), text)
end

def note(name)
  WARNED.clear
  $sent = nil
  begin
    yield
    answer = { payload: $sent }
  rescue StandardError => e
    answer = { error: "#{e.class}: #{e.message}" }
  end
  write("#{name}.stock.json", answer.merge(warnings: WARNED).to_json)
end

def note_report(name, report)
  report.extend(Puppet::Reports.report(:puppetdb))
  note(name) { report.process }
end

# What a real run does with its report: everything above, on the object of the run itself.
Puppet::Reports.register_report(:noted) do
  def process
    name = ENV.fetch('NOTED_AS')
    write("#{name}.yaml", to_yaml)
    write("#{name}.json", to_data_hash.to_json)
    note_report(name, dup)
  end
end

def settle_settings(confdir, vardir, run_mode)
  arguments = ['--confdir', confdir, '--vardir', vardir, '--certname', 'n1.example']
  Puppet.send(:do_initialize_settings_for_run_mode, run_mode, arguments, true, true, {})
  Puppet::Util::Log.level = :warning
  Puppet::Util::Log.newdestination(:console)
  Puppet.push_context(Puppet.base_context(Puppet.settings))
end

def run_agent(confdir, vardir, code)
  settle_settings(confdir, vardir, :agent)
  Puppet[:code] = code
  Puppet[:catalog_terminus] = :compiler
  Puppet[:catalog_cache_terminus] = nil
  Puppet[:node_terminus] = :plain
  Puppet[:facts_terminus] = :facter
  Puppet[:report] = true
  Puppet::Transaction::Report.indirection.terminus_class = :processor
  Puppet[:reports] = 'noted'
  Puppet[:usecacheonfailure] = false
  require 'puppet/configurer'
  Puppet::Configurer.new.run
end

# -- facts

STOCK_FACTS = Puppet::Node::Facts.indirection

def note_facts(name, values, node: Puppet::Node.new('n1.example', parameters: { 'clientcert' => 'n1.example' }), trusted: nil)
  facts = Puppet::Node::Facts.new('n1.example', values)
  request = Puppet::Indirector::Request.new(:facts, :save, 'n1.example', facts, environment: 'production')
  request.node = node
  before = Marshal.dump(facts.values)
  context = trusted ? { trusted_information: trusted } : {}
  note(name) { Puppet.override(context) { STOCK_FACTS.terminus(:puppetdb).save(request) } }
  raise 'the stock terminus changed the facts' unless Marshal.dump(facts.values) == before

  write("#{name}.yaml", YAML.dump(facts))
  write("#{name}.find.yaml", facts.to_yaml)
  write("#{name}.json", facts.render(:json))
end

def all_facts
  real = Puppet::Node::Facts.indirection.terminus(:facter).find(
    Puppet::Indirector::Request.new(:facts, :find, 'n1.example', nil, environment: Puppet::Node::Environment.remote(:production))
  )
  real.sanitize
  remote = Puppet::Context::TrustedInformation.new('remote', 'n1.example', { 'pp_role' => 'web', '1.3.6.1.4' => 'ü' }, { 'a' => [1] })
  note_facts('facts-real', real.values)
  note_facts('facts-remote', real.values, trusted: remote)
  note_facts('facts-odd', {
    'big' => 2**70, 'negative' => -7, 'float' => 0.1, 'tiny' => 1.0e-7, 'huge' => 1.5e300, 'octal' => '0644',
    'words' => %w[yes no on off true false null ~ y n Yes NULL], 'empty' => '', 'base60' => '1:30', 'time' => '2026-01-31 12:00:00 Z',
    'stamp' => '2026-01-31 12:00:00.123456789 +02:00', 'date' => '2026-01-31', 'colon' => ':symbol', 'dots' => '...', 'hex' => '0x1F',
    'underscore' => '1_000', 'commas' => '1,000', 'exponent' => '1e5', 'plus' => '+1', 'merge' => '<<', 'question' => '? a',
    'lines' => "one\ntwo\n\n  three\n", 'tab' => "\ta", 'trailing ' => ' spaces ', 'unicode' => 'ü ☃ 😀', 'nel' => "a\u0085b",
    'control' => "a\u0001b\e[31m", 'quote' => %q('"\\), 'long' => 'word ' * 400, 'mac' => '00:1b:63:84:45:e6', 'v6' => '::1',
    'nothing' => nil, 'yes' => true, 'no' => false, 'list' => [], 'hash' => {}, 'deep' => { 'a' => [{ 'b' => [nil, 1, 'x'] }] },
    'x' * 1500 => 'long key', 'ü: #key' => 1, '12' => 'digits for a key', 'true' => 'word for a key', '' => 'no key'
  })
  note_facts('facts-symbols', { 'a' => :symbol, b: 'symbol for a key', 'c' => [:x, { y: :z }] })
  note_facts('facts-inventory', { 'n' => 1, '_puppet_inventory_1' => { 'packages' => [%w[ü 1.0 apt], %w[b 2 gem]] } })
  note_facts('facts-inventory-list', { 'n' => 1, '_puppet_inventory_1' => [%w[a 1 apt]] })
  note_facts('facts-inventory-empty', { 'n' => 1, '_puppet_inventory_1' => {} })
  note_facts('facts-inventory-null', { 'n' => 1, '_puppet_inventory_1' => { 'packages' => nil } })
  note_facts('facts-inventory-pairs', { 'n' => 1, '_puppet_inventory_1' => { 'packages' => [%w[a 1]] } })
  note_facts('facts-trusted', { 'n' => 1, 'trusted' => { 'certname' => 'forged' } }, trusted: remote)
  note_facts('facts-no-node', { 'n' => 1 }, node: nil)
end

# -- reports

# The same file, as a server has it that gets it from an agent; also with every resource that is in it.
def reread(path)
  name = File.basename(path, '.yaml')
  note_report("#{name}-reread", YAML.unsafe_load_file(path))
  note_report("#{name}-rejson", Puppet::Transaction::Report.from_data_hash(JSON.parse(File.read(path.sub(/yaml$/, 'json')))))
  Puppet::Util::Puppetdb.config.define_singleton_method(:include_unchanged_resources?) { true }
  note_report("#{name}-unchanged", YAML.unsafe_load_file(path))
  Puppet::Util::Puppetdb.config.singleton_class.send(:remove_method, :include_unchanged_resources?)
end

def case_of(name, path)
  report = YAML.unsafe_load_file(path)
  yield report, report.resource_statuses.values.find { |status| !status.events.empty? }
  write("#{name}.yaml", report.to_yaml)
  write("#{name}.json", report.to_data_hash.to_json)
  note_report(name, report)
end

def all_cases(path)
  Puppet[:exclude_unchanged_resources] = false
  case_of('case-job-id', path) { |report, _| report.job_id = 42 }
  case_of('case-nil-status', path) { |report, _| report.resource_statuses['File[/gone]'] = nil }
  case_of('case-metric', path) { |report, _| report.metrics['events'].values += [['x', 'X', nil], ['y', 'Y', '3']] }
  case_of('case-log-source', path) { |report, _| report.logs.first.source = nil; report.logs.first.instance_variable_set(:@source, nil) }
  case_of('case-log-issue', path) { |report, _| report.logs.first.issue_code = :SYNTAX; report.logs.first.environment = 'production' }
  case_of('case-symbols', path) { |_, status| status.events.first.desired_value = [:a, { b: :c }]; status.events.first.previous_value = :absent }
  case_of('case-values', path) do |_, status|
    status.events.first.desired_value = { 'a' => [1, 2.5, 1.0e20, 1e15, nil, true, "q\"\\\#{x} \#$y #z\n\e\u0001 ü \u2028 😀"] }
    status.events.first.previous_value = 2**70
  end
  case_of('case-rare', path) do |_, status|
    status.events.first.desired_value = ["\u0085\u007f\u200b\u2028\ue000\u061d\u{1fae0}\u{1fae8}\u{323af}\u2ffc\u{2ebf0}\u{1fae9}\u0378"]
  end
  case_of('case-skipped-nil', path) { |_, status| status.skipped = nil }
  case_of('case-noop-nil', path) { |report, _| report.instance_variable_set(:@noop, nil) }
  case_of('case-unsent-large', path) do |report, status|
    other = status.dup
    other.instance_variable_set(:@events, [])
    other.instance_variable_set(:@title, 'u' * 3000)
    report.resource_statuses['Unsent'] = other
  end
  case_of('case-total', path) { |report, _| report.metrics['time'].values = [['total', 'Total', 3599.9995]] }
  case_of('case-no-total', path) { |report, _| report.metrics.delete('time') }
  case_of('case-zone', path) { |report, _| report.instance_variable_set(:@time, Time.new(2026, 1, 31, 23, 59, 59.9999r, '+05:30')) }
  case_of('case-utc', path) { |report, _| report.instance_variable_set(:@time, Time.utc(2026, 12, 31, 23, 59, 59.999999r)) }
  case_of('case-environment', path) { |report, _| report.environment = nil }
end

# What Puppet leaves out of a report that it sends, and keeps for itself: resources that were only audited, from Puppet 8
# on by default. A server has the rest.
def excluded(path)
  report = YAML.unsafe_load_file(path)
  Puppet[:exclude_unchanged_resources] = true
  write('case-excluded.yaml', report.to_yaml)
  write('case-excluded.json', report.to_data_hash.to_json)
  Puppet[:exclude_unchanged_resources] = false
  note_report('case-excluded', YAML.unsafe_load_file(File.join(OUT, 'case-excluded.yaml')))
end

# An event that says its values are objects of Puppet's language.
def objects(path)
  data = JSON.parse(File.read(path.sub(/yaml$/, 'json')))
  status = data['resource_statuses'].values.find { |one| !one['events'].empty? }
  status['events'].first.merge!('desired_value' => { '__ptype' => 'Foo', '__pvalue' => [1, 'b'] },
                                'previous_value' => { 'a' => [{ '__ptype' => 'Default' }] })
  write('case-object.json', data.to_json)
  report = Puppet::Transaction::Report.from_data_hash(data)
  read = report.resource_statuses.values.find { |one| !one.events.empty? }.events.first.previous_value
  write('makes_objects.out.json', (read['a'] == [:default]).to_json)
  note_report('case-object', report)
end

# One report with a resource, an event and a log for each stamp of stamps.in.json, as an agent sends it; and another with
# that start and that duration for each of spans.in.json: what becomes of its start and end.
def stamps(path)
  asked = JSON.parse(File.read(File.join(OUT, 'stamps.in.json')))
  base = JSON.parse(File.read(path.sub(/yaml$/, 'json')))
  changed = base['resource_statuses'].values.find { |status| !status['events'].empty? }
  statuses = asked['stamps'].each_with_index.to_h do |stamp, at|
    events = [changed['events'].first.merge('time' => stamp)]
    ["Notify[#{at}]", changed.merge('title' => at.to_s, 'resource' => "Notify[#{at}]", 'time' => stamp, 'events' => events)]
  end
  logs = asked['stamps'].map { |stamp| base['logs'].first.merge('time' => stamp) }
  data = base.merge('resource_statuses' => statuses, 'logs' => logs)
  FileUtils.mkdir_p(File.join(OUT, 'stamps'))
  write('stamps/stamps.json', data.to_json)
  report = Puppet::Transaction::Report.from_data_hash(data)
  write('stamps/stamps.yaml', report.to_yaml)
  note_report('stamps/stamps', report)
  spans = asked['spans'].map do |start, total|
    bare = base.merge('time' => start, 'metrics' => { 'time' => { 'name' => 'time', 'label' => 'Time', 'values' => [['total', 'Total', total]] } },
                      'resource_statuses' => {}, 'logs' => [])
    note_report('stamps/span', Puppet::Transaction::Report.from_data_hash(bare))
    sent = JSON.parse($sent)
    sent.values_at('start_time', 'end_time')
  end
  write('spans.out.json', spans.to_json)
end

# Which characters `inspect` leaves as they are, as the first and the last of each run of them.
def printed
  escaped = (0..0x10ffff).reject { |code| (0xd800..0xdfff).cover?(code) || (char = [code].pack('U')).inspect == %("#{char}") }
  write('escaped.out.json', escaped.slice_when { |a, b| b != a + 1 }.map { |run| [run.first, run.last] }.to_json)
end

# What Ruby reads from plain scalars, and how it writes the values; `text` for what it cannot read, or is a time.
def scalars
  answers = JSON.parse(File.read(File.join(OUT, 'scalars.in.json'))).map do |text|
    value = YAML.unsafe_load("- #{text}\n").first
    value = value.to_s if value.is_a?(Symbol)
    value.is_a?(Time) || value.is_a?(Date) ? { text: text } : { value: value, inspect: value.inspect }
  rescue ArgumentError
    { text: text }
  end
  write('scalars.out.json', JSON.generate(answers, allow_nan: true))
end

case MODE
when 'run'
  begin
    Puppet::Util::CommandLine.new('puppet', REST).execute
  rescue SystemExit
    nil
  end
when 'agent'
  run_agent(*REST)
when 'objects'
  confdir, vardir, *reports = REST
  settle_settings(confdir, vardir, :server)
  scalars
  all_facts
  reports.each { |path| reread(path) }
  all_cases(reports.first)
  excluded(reports.last)
  objects(reports.first)
  stamps(reports.first)
  printed
end
