output "network" {
  description = "Where things run."
  value = {
    vpc_id          = aws_vpc.this.id
    cidr            = var.cidr
    private_subnets = aws_subnet.private[*].id
  }
}
