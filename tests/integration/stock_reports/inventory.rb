# The fact that the package inventory of Puppet Enterprise's agents is, as PuppetDB's terminus expects it.
Facter.add('_puppet_inventory_1') do
  setcode { { 'packages' => [%w[bash 5.2 apt], ['ü', '1.0', 'gem']] } }
end
