# Compiles manifests with a Puppet and runs its terminus on the catalogs, a batch per process.
#
#   ruby stock_catalog.rb WORK REQUEST.json ANSWER.json
#
# REQUEST: "cases" (name, manifest; perhaps "hiera", "foreign", "job_id") are compiled; "documents" are catalogs as
# Puppet prints them, read back by Puppet. ANSWER: for each what the terminus would send ("stock", "inputs") or why
# it would not ("error"), and the forms in which Puppet prints the catalog; "types": what Puppet knows of its types,
# and what each of "titles" stands for in them. "vendor_modules": where the modules are that come with this Puppet.

require 'json'
require 'fileutils'
require 'puppet'
require 'puppet/util/puppetdb'
require 'puppet/indirector/catalog/puppetdb'

WORK, REQUEST, ANSWER = ARGV
CERTNAME = 'node1.example'
TRANSACTION = '11111111-2222-4333-8444-555555555555'

# Puppet Server's recorder has this interface; its class is in a jar.
class Recorder < Puppet::Pops::Lookup::KeyRecorder
  attr_reader :lookups

  def initialize
    @lookups = Hash.new(0)
  end

  def record(key)
    @lookups[key] += 1
  end
end

request = JSON.parse(File.read(REQUEST))
directories = %w[conf var code run log].flat_map { |d| ["--#{d}dir", "#{WORK}/#{d}"] }
FileUtils.mkdir_p("#{WORK}/environments")
directories += ['--vendormoduledir', request['vendor_modules']] if request['vendor_modules']
Puppet.initialize_settings(directories + ['--environmentpath', "#{WORK}/environments"])
Puppet[:node_name_value] = 'primary.example'
Puppet[:storeconfigs] = true
Puppet::Util::Log.level = :err
Puppet::Util::Log.newdestination(:console)
Puppet.push_context(Puppet.base_context(Puppet.settings))

STOCK = Puppet::Resource::Catalog.indirection.terminus(:puppetdb)

# The same without the edges of relationships: what remains to be compared where the terminus refuses a catalog.
UNLINKED = Puppet::Resource::Catalog::Puppetdb.new
UNLINKED.define_singleton_method(:synthesize_edges) { |data, _catalog| data }

# The answer of exported-resource queries, without a PuppetDB.
$foreign = []
Puppet::Resource.indirection.define_singleton_method(:search) do |type, options|
  $foreign.select { |row| row['type'] == type }.map do |row|
    parameters = row['parameters'].map { |name, value| Puppet::Parser::Resource::Param.new(name: name, value: value) }
    found = Puppet::Pops::Evaluator::Runtime3ResourceSupport.find_resource_type(options[:scope], type)
    resource = Puppet::Parser::Resource.new(found, row['title'], parameters: parameters, scope: options[:scope])
    resource.collector_id = "other.example|#{type}|#{row['title']}"
    resource
  end
end

def munged(catalog, job_id)
  extra = { transaction_uuid: TRANSACTION, job_id: job_id, environment: catalog.environment }
  unlinked, = UNLINKED.munge_catalog(catalog, Time.now, extra)
  begin
    data, inputs = STOCK.munge_catalog(catalog, Time.now, extra)
    { stock: data, inputs: inputs, unlinked: unlinked }
  rescue Puppet::Error => e
    { error: e.message, unlinked: unlinked }
  end
end

# What the data hash leaves out: which resources nothing has collected yet.
def marked(catalog, document)
  document['resources'].each do |resource|
    found = catalog.resource(resource['type'], resource['title'])
    resource['virtual'] = true if found&.virtual?
  end
  document
end

def document(catalog, format)
  JSON.parse(catalog.render(format))
end

def write_environment(test_case)
  directory = "#{WORK}/environments/#{test_case['name']}"
  FileUtils.mkdir_p("#{directory}/manifests")
  File.write("#{directory}/manifests/site.pp", test_case['manifest'])
  return unless test_case['hiera']

  FileUtils.mkdir_p("#{directory}/data")
  File.write("#{directory}/hiera.yaml", "version: 5\nhierarchy:\n  - {name: common, path: common.yaml}\n")
  File.write("#{directory}/data/common.yaml", JSON.generate(test_case['hiera']))
end

def compiled(test_case)
  environment = Puppet.lookup(:environments).get!(test_case['name'])
  node = Puppet::Node.new(CERTNAME, environment: environment, facts: Puppet::Node::Facts.new(CERTNAME))
  node.merge({ 'fqdn' => CERTNAME })
  Puppet.override(current_environment: environment, loaders: Puppet::Pops::Loaders.new(environment)) do
    catalog = Puppet::Parser::Compiler.compile(node, test_case['code_id'])
    filtered = Puppet::Resource::Catalog.indirection.terminus(:compiler).filter(catalog)
    text = filtered.render('rich_data_json')
    cached = Puppet::Resource::Catalog.convert_from('rich_data_json', text)
    documents = {
      plain: document(filtered, 'json'),
      rich: JSON.parse(text),
      unfiltered: document(catalog, 'rich_data_json'),
      marked: marked(catalog, document(catalog, 'rich_data_json')),
      # as Puppet::Server::Compiler has it, which does not turn rich data on
      v4: JSON.parse(JSON.generate(catalog: catalog.to_data_hash)),
      cached: document(cached, 'rich_data_json')
    }
    { documents: documents, filtered: munged(filtered, test_case['job_id']) }.merge(munged(catalog, test_case['job_id']))
  end
end

def answer(test_case)
  $foreign = test_case['foreign'] || []
  Puppet.override(lookup_key_recorder: Recorder.new) { compiled(test_case) }
rescue Puppet::Error => e
  { compile_error: e.message }
end

NOWHERE = Puppet::Node::Environment.create(:production, [])
NOWHERE_LOADERS = Puppet::Pops::Loaders.new(NOWHERE)

def reread(request)
  Puppet.override(rich_data: true, current_environment: NOWHERE, loaders: NOWHERE_LOADERS) do
    munged(Puppet::Resource::Catalog.from_data_hash(request['document']), nil)
  end
rescue ArgumentError => e
  { unreadable: e.message }
end

# What a title stands for: by the first pattern that is found in it.
def parsed(type, title)
  type.title_patterns.each do |pattern, attributes|
    found = pattern.match(title) or next
    return attributes.zip(found.captures).to_h { |(name, munge), part| [name, munge ? munge.call(part) : part] }
  end
  {}
end

def types(titles)
  Puppet::Type.loadall
  known = []
  Puppet::Type.eachtype { |type| known << type }
  known.to_h do |type|
    meant = titles.to_h { |title| [title, parsed(type, title)] }
    [type.name, { key_attributes: type.key_attributes, isomorphic: type.isomorphic?, titles: meant }]
  end
end

(request['cases'] || []).each { |test_case| write_environment(test_case) }
cases = (request['cases'] || []).to_h { |test_case| [test_case['name'], answer(test_case)] }
documents = (request['documents'] || []).to_h { |doc| [doc['name'], reread(doc)] }
File.write(ANSWER, JSON.generate(cases: cases, documents: documents, types: types(request['titles'] || []), version: Puppet.version))
