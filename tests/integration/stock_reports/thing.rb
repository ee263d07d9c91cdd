# A resource type whose properties have values of every kind. It changes nothing.
Puppet::Type.newtype(:thing) do
  newparam(:name, namevar: true)

  def self.fake(name, is, **options, &block)
    newproperty(name, **options) do
      define_method(:retrieve) { is }
      define_method(:insync?) { |_| false }
      define_method(:set) { |_| nil }
      class_eval(&block) if block
    end
  end

  fake(:list, ['0644', 1, "ü\n"], array_matching: :all)
  fake(:hash, { 'a' => [1, nil], 'b' => :symbol })
  fake(:number, 0.1)
  fake(:flag, nil) { newvalues(:true, :false) }
  fake(:secret, 'old')
  fake(:broken, 'x') { define_method(:set) { |_| raise Puppet::Error, 'cannot ☃' } }
end
